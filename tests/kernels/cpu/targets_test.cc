// The Highway kernels on every instruction set they are compiled for, not only
// the best one of the machine that runs the test.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "hwy/highway.h"
#include "tests/kernels/attention/attention_fixture.h"
#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"

namespace sinklora::kernels {
namespace {

using testing::HostTensor;
using testing::TensorNear;

// Restricts dispatch to `targets` while it lives.
class ScopedTargets {
 public:
  explicit ScopedTargets(int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  ~ScopedTargets() {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

class TargetsTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if ((hwy::SupportedTargets() & GetParam()) == 0) {
      GTEST_SKIP() << "this processor lacks " << hwy::TargetName(GetParam());
    }
  }
};

INSTANTIATE_TEST_SUITE_P(All, TargetsTest,
                         ::testing::Values(HWY_AVX3, HWY_AVX2, HWY_SCALAR),
                         [](const auto& info) {
                           return hwy::TargetName(info.param);
                         });

TEST_P(TargetsTest, NameIsReported) {
  const ScopedTargets targets(GetParam());
  EXPECT_NE(Open("cpu")->description().find(hwy::TargetName(GetParam())),
            std::string::npos);
}

TEST_P(TargetsTest, AttentionMatchesReference) {
  const ScopedTargets targets(GetParam());
  const auto cpu = Open("cpu");
  const auto reference = Open("reference");
  for (int64_t head_dim : {8, 24, 64}) {
    const auto pattern = MakePattern("sf", 4, 40, {100, 3, 40}, 2).pattern;
    const AttentionInputs in = MakeInputs(149, 4, 2, head_dim, 3, 1);
    const AttentionResults got = RunBoth(*cpu, in, pattern, 1);
    const AttentionResults want = RunBoth(*reference, in, pattern, 1);
    const auto backward = AttentionGradientTolerance(head_dim, 149, 6.0);
    EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(),
                           AttentionTolerance(head_dim, 6.0)));
    EXPECT_TRUE(TensorNear(got.dq.view(), want.dq.view(), backward));
    EXPECT_TRUE(TensorNear(got.dk.view(), want.dk.view(), backward));
    EXPECT_TRUE(TensorNear(got.dv.view(), want.dv.view(), backward));
  }
}

TEST_P(TargetsTest, CastIsExact) {
  const ScopedTargets targets(GetParam());
  const HostTensor x = HostTensor::Random(DType::kF32, {1003}, 5);
  HostTensor got = HostTensor::NaNs(DType::kBF16, {1003});
  HostTensor want = got;
  ASSERT_TRUE(Ok(Open("cpu")->Cast({.x = x.view(), .out = got.view()})));
  ASSERT_TRUE(Ok(Open("reference")->Cast({.x = x.view(), .out = want.view()})));
  EXPECT_TRUE(testing::BitEqual(got.view(), want.view()));
}

}  // namespace
}  // namespace sinklora::kernels
