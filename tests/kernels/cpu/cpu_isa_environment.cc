// Skips every test of the program where the machine lacks the instruction set
// that the run is about.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "kernels/cpu/cpu_isa.h"
#include "tests/kernels/backends.h"

namespace sinklora::kernels {
namespace {

class CpuIsaEnvironment : public ::testing::Environment {
 public:
  void SetUp() override {
    cpu::CpuIsa isa;
    const Status status =
        cpu::ParseCpuIsa(TestedCpuIsa(), cpu::AvailableCpuIsas(), &isa);
    if (status.code() == StatusCode::kUnavailable) {
      GTEST_SKIP() << status.message();
    }
    ASSERT_TRUE(Ok(status));
  }
};

[[maybe_unused]] const auto* const kEnvironment =
    ::testing::AddGlobalTestEnvironment(new CpuIsaEnvironment);

}  // namespace
}  // namespace sinklora::kernels
