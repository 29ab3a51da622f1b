// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;

struct Outcome {
  HostTensor out, inv_rms, dx, dweight;
};

struct Case {
  int64_t tokens, dim;
  DType weight = DType::kF32;
  bool accumulate = false;
  int64_t padding = 0;
  double scale = 1.0;
};

Outcome RunCase(Backend& backend, const Case& c) {
  const HostTensor x =
      HostTensor::Random(DType::kF32, {c.tokens, c.dim}, 1, c.scale, c.padding);
  const HostTensor weight = HostTensor::Random(c.weight, {c.dim}, 2);
  const HostTensor dout =
      HostTensor::Random(DType::kF32, {c.tokens, c.dim}, 3, 1.0, c.padding);
  Outcome r;
  r.out = HostTensor::NaNs(DType::kF32, {c.tokens, c.dim}, c.padding);
  r.inv_rms = HostTensor::NaNs(DType::kF32, {c.tokens});
  EXPECT_TRUE(Ok(backend.RmsNormForward({.x = x.view(),
                                         .weight = weight.view(),
                                         .eps = 1e-5f,
                                         .out = r.out.view(),
                                         .inv_rms = r.inv_rms.view()})));
  r.dx = c.accumulate
             ? HostTensor::Random(DType::kF32, {c.tokens, c.dim}, 4, 1.0,
                                  c.padding)
             : HostTensor::NaNs(DType::kF32, {c.tokens, c.dim}, c.padding);
  r.dweight = HostTensor::Random(DType::kF32, {c.dim}, 5);
  EXPECT_TRUE(Ok(backend.RmsNormBackward({.dout = dout.view(),
                                          .x = x.view(),
                                          .weight = weight.view(),
                                          .inv_rms = r.inv_rms.view(),
                                          .dx = r.dx.view(),
                                          .accumulate_dx = c.accumulate,
                                          .dweight = r.dweight.view()})));
  EXPECT_TRUE(r.out.GapsUntouched() && r.dx.GapsUntouched());
  return r;
}

// Bounds |weight * dout| of normal inputs.
constexpr double kLargestTerm = 9.0;

double LargestInvRms(const Outcome& outcome) {
  double largest = 0.0;
  for (int64_t t = 0; t < outcome.inv_rms.view().shape[0]; ++t) {
    largest = std::max(largest, outcome.inv_rms.Get(t));
  }
  return largest;
}

TEST(RmsNormTest, MatchesReference) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  for (int64_t tokens : {1, 31, 32, 33, 67}) {
    for (int64_t dim : {1, 7, 16, 63, 65, 288, 2053}) {
      for (const Case& c :
           {Case{tokens, dim}, Case{tokens, dim, DType::kBF16, true, 3},
            Case{tokens, dim, DType::kF32, false, 0, 1e-6},
            Case{tokens, dim, DType::kF32, false, 0, 1e6}}) {
        const Outcome got = RunCase(*cpu, c);
        const Outcome want = RunCase(*reference, c);
        const auto tolerance = SumTolerance(dim + 4);
        EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(), tolerance));
        EXPECT_TRUE(
            TensorNear(got.inv_rms.view(), want.inv_rms.view(), tolerance));
        // dx is a difference of terms of size inv_rms * |weight * dout|.
        auto dx = SumTolerance(2 * dim + 16);
        dx.absolute += 8.0 * kF32Rounding * kLargestTerm * LargestInvRms(want);
        EXPECT_TRUE(TensorNear(got.dx.view(), want.dx.view(), dx))
            << tokens << "x" << dim << " scale " << c.scale;
        // Each factor inv_rms has lost what a sum over dim loses.
        EXPECT_TRUE(TensorNear(got.dweight.view(), want.dweight.view(),
                               SumTolerance(tokens + dim + 4)));
      }
    }
  }
}

TEST(RmsNormTest, WorksInPlaceAndWithoutOptionalOutputs) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const HostTensor weight = HostTensor::Random(DType::kF32, {33}, 2);
    HostTensor x = HostTensor::Random(DType::kF32, {5, 33}, 1);
    HostTensor out = HostTensor::NaNs(DType::kF32, {5, 33});
    ASSERT_TRUE(Ok(backend->RmsNormForward(
        {.x = x.view(), .weight = weight.view(), .out = out.view()})));
    ASSERT_TRUE(Ok(backend->RmsNormForward(
        {.x = x.view(), .weight = weight.view(), .out = x.view()})));
    EXPECT_TRUE(BitEqual(x.view(), out.view()));
  }
}

TEST(RmsNormTest, ThreadsDoNotChangeBits) {
  const Case c{513, 300};
  const Outcome one = RunCase(*Open(kTested, 1), c);
  for (int threads : {2, 3}) {
    const Outcome many = RunCase(*Open(kTested, threads), c);
    EXPECT_TRUE(BitEqual(many.out.view(), one.out.view()));
    EXPECT_TRUE(BitEqual(many.dx.view(), one.dx.view()));
    EXPECT_TRUE(BitEqual(many.dweight.view(), one.dweight.view()));
  }
}

TEST(RmsNormTest, RefusesBadParams) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    HostTensor x = HostTensor::Random(DType::kF32, {5, 8}, 1);
    HostTensor out = HostTensor::NaNs(DType::kF32, {5, 8});
    const HostTensor weight = HostTensor::Random(DType::kF32, {8}, 2);
    const HostTensor short_weight = HostTensor::Random(DType::kF32, {7}, 2);
    const HostTensor inv_rms = HostTensor::Random(DType::kF32, {5}, 2);
    EXPECT_TRUE(Refused(
        backend->RmsNormForward(
            {.x = x.view(), .weight = short_weight.view(), .out = out.view()}),
        {"rms_norm_forward", "weight.shape[0] is 7, must be 8"}));
    EXPECT_TRUE(Refused(backend->RmsNormForward({.x = x.view(),
                                                 .weight = weight.view(),
                                                 .eps = -1.0f,
                                                 .out = out.view()}),
                        {"eps is -1"}));
    EXPECT_TRUE(Refused(backend->RmsNormBackward({.dout = out.view(),
                                                  .x = x.view(),
                                                  .weight = weight.view(),
                                                  .inv_rms = inv_rms.view(),
                                                  .dx = x.view()}),
                        {"dx is overlapping x"}));
  }
}

}  // namespace
}  // namespace sinklora::kernels
