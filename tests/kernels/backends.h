// Backends for the kernel tests, all of them on one instruction set.
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

namespace sinklora::kernels {

// The instruction set that this run of the tests is about; CMakeLists.txt
// registers one run for each.
inline std::string TestedCpuIsa() {
  const char* isa = std::getenv("SINKLORA_TEST_CPU_ISA");
  return isa == nullptr ? "auto" : isa;
}

inline std::unique_ptr<Backend> Open(std::string_view name,
                                     int num_threads = 2) {
  std::unique_ptr<Backend> backend;
  BackendOptions options;
  options.num_threads = num_threads;
  if (name != "reference") options.cpu_isa = TestedCpuIsa();
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
