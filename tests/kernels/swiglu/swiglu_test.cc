// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;

struct Case {
  int64_t tokens, hidden;
  double scale = 1.0;
  int64_t padding = 0;
};

struct Outcome {
  HostTensor out, dgate, dup;
};

Outcome RunCase(Backend& backend, const Case& c, bool in_place = false) {
  const std::vector<int64_t> shape{c.tokens, c.hidden};
  HostTensor gate =
      HostTensor::Random(DType::kF32, shape, 1, c.scale, c.padding);
  HostTensor up = HostTensor::Random(DType::kF32, shape, 2, 1.0, c.padding);
  const HostTensor dout =
      HostTensor::Random(DType::kF32, shape, 3, 1.0, c.padding);
  Outcome r;
  r.out = HostTensor::NaNs(DType::kF32, shape, c.padding);
  r.dgate = r.out;
  r.dup = r.out;
  EXPECT_TRUE(Ok(backend.SwiGluForward(
      {.gate = gate.view(), .up = up.view(), .out = r.out.view()})));
  if (in_place) {
    EXPECT_TRUE(Ok(backend.SwiGluBackward({.dout = dout.view(),
                                           .gate = gate.view(),
                                           .up = up.view(),
                                           .dgate = gate.view(),
                                           .dup = up.view()})));
    r.dgate = gate;
    r.dup = up;
  } else {
    EXPECT_TRUE(Ok(backend.SwiGluBackward({.dout = dout.view(),
                                           .gate = gate.view(),
                                           .up = up.view(),
                                           .dgate = r.dgate.view(),
                                           .dup = r.dup.view()})));
  }
  EXPECT_TRUE(r.out.GapsUntouched() && r.dgate.GapsUntouched() &&
              r.dup.GapsUntouched());
  return r;
}

TEST(SwiGluTest, MatchesReferenceUpToExtremeGates) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  for (int64_t tokens : {1, 5}) {
    for (int64_t hidden : {1, 15, 16, 17, 300}) {
      for (double scale : {1.0, 1e-30, 100.0, 1e30}) {
        for (int64_t padding : {0, 3}) {
          const Case c{tokens, hidden, scale, padding};
          const Outcome got = RunCase(*cpu, c);
          const Outcome want = RunCase(*reference, c);
          EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(), kPointwise));
          EXPECT_TRUE(
              TensorNear(got.dgate.view(), want.dgate.view(), kPointwise));
          EXPECT_TRUE(TensorNear(got.dup.view(), want.dup.view(), kPointwise));
        }
      }
    }
  }
}

TEST(SwiGluTest, InPlaceGivesEqualBits) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const Outcome apart = RunCase(*backend, {7, 45}, false);
    const Outcome in_place = RunCase(*backend, {7, 45}, true);
    EXPECT_TRUE(BitEqual(in_place.dgate.view(), apart.dgate.view()));
    EXPECT_TRUE(BitEqual(in_place.dup.view(), apart.dup.view()));
  }
}

TEST(SwiGluTest, NaNReachesTheResult) {
  const auto backend = Open(kTested);
  HostTensor gate = HostTensor::Zeros(DType::kF32, {1, 20});
  gate.Set(std::nan(""), 0, 18);
  const HostTensor up = HostTensor::Random(DType::kF32, {1, 20}, 1);
  HostTensor out = HostTensor::Zeros(DType::kF32, {1, 20});
  ASSERT_TRUE(Ok(backend->SwiGluForward(
      {.gate = gate.view(), .up = up.view(), .out = out.view()})));
  EXPECT_TRUE(std::isnan(out.Get(0, 18)));
  EXPECT_EQ(out.Get(0, 17), 0.0);
}

TEST(SwiGluTest, ThreadsDoNotChangeBits) {
  const Outcome one = RunCase(*Open(kTested, 1), {700, 200});
  const Outcome three = RunCase(*Open(kTested, 3), {700, 200});
  EXPECT_TRUE(BitEqual(three.out.view(), one.out.view()));
  EXPECT_TRUE(BitEqual(three.dgate.view(), one.dgate.view()));
}

TEST(SwiGluTest, RefusesBadParams) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    HostTensor a = HostTensor::Zeros(DType::kF32, {2, 3});
    HostTensor b = HostTensor::Zeros(DType::kF32, {2, 4});
    EXPECT_TRUE(
        Refused(backend->SwiGluForward(
                    {.gate = a.view(), .up = b.view(), .out = a.view()}),
                {"swiglu_forward", "up.shape[1] is 4, must be 3"}));
    EXPECT_TRUE(Refused(backend->SwiGluBackward({.dout = a.view(),
                                                 .gate = a.view(),
                                                 .up = a.view(),
                                                 .dgate = b.view(),
                                                 .dup = a.view()}),
                        {"swiglu_backward", "dgate.shape[1] is 4"}));
  }
}

}  // namespace
}  // namespace sinklora::kernels
