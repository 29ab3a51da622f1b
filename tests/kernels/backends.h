// Backends for the kernel tests: the reference, and the one that this run of
// the tests is about. Tensors of tests are in host memory; a backend with
// memory of its own gets copies of them (host_view_backend.h).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_KERNELS_BACKENDS_H_
#define SINKLORA_TESTS_KERNELS_BACKENDS_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/backend.h"
#ifdef SINKLORA_CUDA_EMULATION
#include "tests/kernels/cuda/host_view_backend.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"
#endif

namespace sinklora::kernels {

// The instruction set that this run of the tests is about; CMakeLists.txt
// registers one run for each.
inline std::string TestedCpuIsa() {
  const char* isa = std::getenv("SINKLORA_TEST_CPU_ISA");
  return isa == nullptr ? "auto" : isa;
}

// The backend that this run of the tests is about: "cpu", or the CUDA backend
// on "cuda_emulation" or a device "cuda:N".
#ifndef SINKLORA_TEST_BACKEND
#define SINKLORA_TEST_BACKEND "cpu"
#endif
inline const char* TestedBackend() {
  const char* name = std::getenv("SINKLORA_TEST_BACKEND");
  return name == nullptr ? SINKLORA_TEST_BACKEND : name;
}
inline const char* const kTested = TestedBackend();

// Whether that is the emulator, on which large shapes take minutes.
inline bool Emulated() { return std::string_view(kTested) == "cuda_emulation"; }

#ifdef SINKLORA_CUDA_EMULATION
inline Status OpenCudaDevice(std::string_view name,
                             std::unique_ptr<Backend>* out) {
  return name == "cuda_emulation" ? emulation::OpenEmulated(out)
                                  : OpenBackend(name, {}, out);
}
#endif

inline std::unique_ptr<Backend> Open(std::string_view name,
                                     int num_threads = 2) {
  std::unique_ptr<Backend> backend;
#ifdef SINKLORA_CUDA_EMULATION
  if (name.starts_with("cuda")) {
    const Status opened = OpenCudaDevice(name, &backend);
    EXPECT_TRUE(opened.ok()) << opened.message();
    return opened.ok() ? MakeHostViews(std::move(backend)) : nullptr;
  }
#endif
  BackendOptions options;
  options.num_threads = num_threads;
  if (name == "cpu") options.cpu_isa = TestedCpuIsa();
  const Status status = OpenBackend(name, options, &backend);
  EXPECT_TRUE(status.ok()) << status.message();
  return backend;
}

inline ::testing::AssertionResult Ok(const Status& status) {
  if (status.ok()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << status.message();
}

// Refused as invalid, with a message that holds all of `parts`.
inline ::testing::AssertionResult Refused(
    const Status& status, std::initializer_list<std::string_view> parts) {
  if (status.code() != StatusCode::kInvalidArgument) {
    return ::testing::AssertionFailure()
           << "not refused as invalid: " << status.message();
  }
  for (std::string_view part : parts) {
    if (status.message().find(part) == std::string::npos) {
      return ::testing::AssertionFailure()
             << "\"" << status.message() << "\" lacks \"" << part << "\"";
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace sinklora::kernels

#endif  // SINKLORA_TESTS_KERNELS_BACKENDS_H_
