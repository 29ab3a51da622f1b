// Skips every test of the program where the device that the run is about is not
// there; CMakeLists.txt registers one run on a real one.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/kernels/backends.h"

namespace sinklora::kernels {
namespace {

class CudaDeviceEnvironment : public ::testing::Environment {
 public:
  void SetUp() override {
    std::unique_ptr<Backend> backend;
    const Status status = OpenCudaDevice(kTested, &backend);
    if (status.code() == StatusCode::kUnavailable) {
      // GoogleTest itself counts tests skipped from here as passed.
      std::printf("[  SKIPPED ] %d tests\n",
                  ::testing::UnitTest::GetInstance()->test_to_run_count());
      GTEST_SKIP() << status.message();
    }
    ASSERT_TRUE(Ok(status));
  }
};

[[maybe_unused]] const auto* const kEnvironment =
    ::testing::AddGlobalTestEnvironment(new CudaDeviceEnvironment);

}  // namespace
}  // namespace sinklora::kernels
