// Properties of attention that need patterns of their own, and what it refuses,
// on the reference backend and the tested one.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>

#include "tests/kernels/attention/attention_fixture.h"
#include "tests/kernels/attention/dense_attention.h"
#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;

class AttentionBackendTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = OpenFor(GetParam());
  const DType product_ = ProductOf(GetParam());
  template <typename... Args>
  AttentionInputs MakeInputs(Args... args) {
    AttentionInputs in = kernels::MakeInputs(args...);
    in.product_dtype = product_;
    return in;
  }
};

INSTANTIATE_TEST_SUITE_P(All, AttentionBackendTest,
                         ::testing::ValuesIn(kBackends));

TEST_P(AttentionBackendTest, SinksCoveringOneGroupEqualFull) {
  const AttentionInputs in = MakeInputs(100, 4, 2, 16, 71);
  AttentionPattern full{.segments = {{0, 100, 100}}};
  AttentionPattern sinks{.segments = {{0, 100, 100}}, .sink_tokens = 100};
  const AttentionResults a = RunBoth(*backend_, in, full);
  const AttentionResults b = RunBoth(*backend_, in, sinks);
  EXPECT_TRUE(BitEqual(a.out.view(), b.out.view()));
  EXPECT_TRUE(BitEqual(a.dk.view(), b.dk.view()));
}

TEST_P(AttentionBackendTest, SinksBeyondTheLengthEqualFullInValue) {
  const AttentionInputs in = MakeInputs(100, 4, 2, 16, 73);
  AttentionPattern full{.segments = {{0, 100, 100}}};
  AttentionPattern sinks{
      .segments = {{0, 100, 8}}, .shifted_heads = 2, .sink_tokens = 500};
  EXPECT_EQ(LivePairs(full, 4), LivePairs(sinks, 4));
  const AttentionResults a = RunForward(*backend_, in, full);
  const AttentionResults b = RunForward(*backend_, in, sinks);
  EXPECT_TRUE(TensorNear(b.out.view(), a.out.view(),
                         AttentionTolerance(16, kLargestScore, product_)));
}

// Un-shifted heads do not notice that others are shifted.
TEST_P(AttentionBackendTest, FirstHalfOfS2IsShort) {
  const AttentionInputs in = MakeInputs(130, 4, 4, 16, 74);
  const AttentionResults s2 =
      RunForward(*backend_, in, MakePattern("s2", 4, 32, {130}).pattern);
  const AttentionResults plain =
      RunForward(*backend_, in, MakePattern("short", 4, 32, {130}).pattern);
  for (int64_t t = 0; t < 130; ++t) {
    for (int64_t d = 0; d < 16; ++d) {
      EXPECT_EQ(s2.out.Get(t, 1, d), plain.out.Get(t, 1, d));
    }
  }
}

TEST_P(AttentionBackendTest, WindowOfTheLengthIsNone) {
  const AttentionInputs in = MakeInputs(130, 4, 2, 16, 81);
  for (const char* name : {"full", "sf"}) {
    const auto none = MakePattern(name, 4, 40, {130}).pattern;
    auto wide = none;
    wide.window = 130;
    EXPECT_EQ(LivePairs(wide, 4), LivePairs(none, 4));
    const AttentionResults a = RunBoth(*backend_, in, none);
    const AttentionResults b = RunBoth(*backend_, in, wide);
    EXPECT_TRUE(BitEqual(a.out.view(), b.out.view()));
    EXPECT_TRUE(BitEqual(a.dq.view(), b.dq.view()));
    EXPECT_TRUE(BitEqual(a.dk.view(), b.dk.view()));
    EXPECT_TRUE(BitEqual(a.dv.view(), b.dv.view()));
  }
}

// Sinks included: the window takes them too.
TEST_P(AttentionBackendTest, TokensBeforeTheWindowDoNotShow) {
  const int64_t tokens = 200;
  const AttentionInputs in = MakeInputs(tokens, 4, 2, 16, 82);
  for (const int64_t window : {1, 20, 64, 90}) {
    for (const char* name : {"full", "s2_sinks"}) {
      auto pattern = MakePattern(name, 4, 150, {tokens}).pattern;
      pattern.window = window;
      const AttentionResults before = RunForward(*backend_, in, pattern);
      for (const int64_t t : {0, 3, 63, 64, 100}) {
        AttentionInputs changed = in;
        for (int64_t d = 0; d < 16; ++d) {
          for (int64_t h = 0; h < 2; ++h) {
            changed.k.Set(std::numeric_limits<double>::quiet_NaN(), t, h, d);
            changed.v.Set(std::numeric_limits<double>::quiet_NaN(), t, h, d);
          }
        }
        const AttentionResults after = RunForward(*backend_, changed, pattern);
        const int64_t from = t + window;
        EXPECT_TRUE(BitEqual(after.out.view().Rows(from, tokens - from),
                             before.out.view().Rows(from, tokens - from)))
            << name << " window " << window << " token " << t;
      }
    }
  }
}

void RoundToBf16(HostTensor* x) {
  const auto shape = x->view().shape;
  for (int64_t t = 0; t < shape[0]; ++t) {
    for (int64_t h = 0; h < shape[1]; ++h) {
      for (int64_t d = 0; d < shape[2]; ++d) {
        const auto value = static_cast<float>(x->Get(t, h, d));
        x->Set(FromBf16(ToBf16(value)), t, h, d);
      }
    }
  }
}

TEST_P(AttentionBackendTest, LargeLogitsStayFiniteAndRight) {
  const auto reference = Open("reference");
  AttentionInputs in = MakeInputs(90, 2, 1, 16, 81, 0, 200.0);
  double rounding = 0;
  if (product_ == DType::kBF16) {
    // Rounding the operands of scores this large would decide between keys; the
    // scale is a power of two, so these lose nothing.
    for (HostTensor* x : {&in.q, &in.k, &in.v}) RoundToBf16(x);
    rounding = kBF16Rounding;
  }
  const auto pattern = MakePattern("sf", 2, 32, {90}).pattern;
  const AttentionResults got = RunBoth(*backend_, in, pattern);
  const AttentionResults want = RunBoth(*reference, in, pattern);
  auto forward = AttentionTolerance(16, 200.0 * kLargestScore);
  auto backward = AttentionGradientTolerance(16, 90, 200.0 * kLargestScore);
  forward.of_largest += rounding;         // probabilities
  backward.of_largest += 4.0 * rounding;  // dout and the score gradients too
  EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(), forward));
  EXPECT_TRUE(TensorNear(got.dq.view(), want.dq.view(), backward));
}

// What a query does not see has no part in its gradient, not even times zero.
TEST_P(AttentionBackendTest, NaNKeysLeaveEarlierQueryGradientsBitEqual) {
  const AttentionInputs in = MakeInputs(165, 4, 2, 16, 23);
  for (const char* name : {"full", "sf", "s2_sinks"}) {
    auto pattern = MakePattern(name, 4, 32, {90, 75}).pattern;
    for (const int64_t window : {0, 20}) {
      pattern.window = window;
      const AttentionResults before = RunBoth(*backend_, in, pattern);
      for (const int64_t t : {1, 31, 64, 89, 90, 95, 150, 164}) {
        AttentionInputs changed = in;
        for (int64_t d = 0; d < 16; ++d) {
          for (int64_t h = 0; h < 2; ++h) {
            changed.k.Set(std::numeric_limits<double>::quiet_NaN(), t, h, d);
          }
        }
        const AttentionResults after = RunBoth(*backend_, changed, pattern);
        EXPECT_TRUE(
            BitEqual(after.dq.view().Rows(0, t), before.dq.view().Rows(0, t)))
            << name << " window " << window << " token " << t;
      }
    }
  }
}

// Queries of so many groups see the sinks that a backend may cut them.
TEST_P(AttentionBackendTest, SinksOfLongDocumentsMatchReference) {
  const int64_t tokens = 4200;
  const AttentionInputs in = MakeInputs(tokens, 2, 1, 8, 84);
  const auto pattern = MakePattern("sf", 2, 32, {tokens - 50, 50}).pattern;
  const AttentionResults got = RunBoth(*backend_, in, pattern);
  const AttentionResults want = RunBoth(*Open("reference"), in, pattern);
  const auto tolerance =
      AttentionGradientTolerance(8, tokens, kLargestScore, product_);
  EXPECT_TRUE(TensorNear(got.dq.view(), want.dq.view(), tolerance));
  EXPECT_TRUE(TensorNear(got.dk.view(), want.dk.view(), tolerance));
  EXPECT_TRUE(TensorNear(got.dv.view(), want.dv.view(), tolerance));
  EXPECT_TRUE(
      BitEqual(RunBoth(*backend_, in, pattern).dk.view(), got.dk.view()));
}

TEST_P(AttentionBackendTest, NoTokensAndNoSegmentsAreFine) {
  const AttentionPattern none;
  AttentionInputs in = MakeInputs(0, 2, 1, 8, 82);
  RunBoth(*backend_, in, none);
  in = MakeInputs(5, 2, 1, 8, 83);
  const AttentionResults r = RunBoth(*backend_, in, none);
  const HostTensor zero = HostTensor::Zeros(DType::kF32, {5, 2, 8});
  EXPECT_TRUE(BitEqual(r.out.view(), zero.view()));
  EXPECT_TRUE(BitEqual(r.dq.view(), zero.view()));
  EXPECT_TRUE(
      BitEqual(r.dk.view(), HostTensor::Zeros(DType::kF32, {5, 1, 8}).view()));
}

TEST_P(AttentionBackendTest, RefusesBadParams) {
  const AttentionInputs in = MakeInputs(10, 4, 2, 8, 91);
  AttentionPattern pattern{.segments = {{0, 10, 4}}};
  HostTensor out = HostTensor::NaNs(DType::kF32, {10, 4, 8});
  const HostTensor untouched = out;
  AttentionForwardParams good{.q = in.q.view(),
                              .k = in.k.view(),
                              .v = in.v.view(),
                              .pattern = &pattern,
                              .scale = 1.0f,
                              .out = out.view()};
  const auto refused = [&](const AttentionForwardParams& p,
                           std::initializer_list<std::string_view> parts) {
    return Refused(backend_->AttentionForward(p), parts);
  };
  AttentionForwardParams p = good;
  p.pattern = nullptr;
  EXPECT_TRUE(refused(p, {"attention_forward", "pattern is null"}));
  p = good;
  p.scale = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(refused(p, {"scale", "inf"}));
  p = good;
  p.product_dtype = DType::kI32;
  EXPECT_TRUE(refused(p, {"product_dtype", "f32 or bf16"}));
  p = good;
  p.k.shape[1] = 3;
  EXPECT_TRUE(refused(p, {"attention_forward"}));
  p = good;
  p.out.shape[0] = 9;
  EXPECT_TRUE(refused(p, {"out.shape[0] is 9, must be 10"}));
  const auto bad_pattern = [&](const AttentionPattern& bad) {
    p = good;
    p.pattern = &bad;
    return backend_->AttentionForward(p);
  };
  EXPECT_TRUE(Refused(bad_pattern({.segments = {{0, 11, 4}}}),
                      {"segments[0].length is 11"}));
  EXPECT_TRUE(Refused(bad_pattern({.segments = {{0, 6, 4}, {5, 2, 4}}}),
                      {"segments[1].begin is 5"}));
  EXPECT_TRUE(
      Refused(bad_pattern({.segments = {{0, 6, 0}}}), {"group_size is 0"}));
  EXPECT_TRUE(
      Refused(bad_pattern({.segments = {{0, 6, 4}}, .shifted_heads = 5}),
              {"shifted_heads is 5", "[0, 4]"}));
  EXPECT_TRUE(Refused(bad_pattern({.segments = {{0, 6, 4}}, .sink_tokens = -1}),
                      {"sink_tokens is -1"}));
  EXPECT_TRUE(
      Refused(bad_pattern({.segments = {{0, 6, 4, 3}}, .sink_tokens = 4}),
              {"segments[0].lead is 3", "0 or in [4, 6]"}));
  EXPECT_TRUE(Refused(bad_pattern({.segments = {{0, 6, 4, 7}}}),
                      {"segments[0].lead is 7"}));
  EXPECT_TRUE(Refused(bad_pattern({.segments = {{0, 6, 4}}, .window = -1}),
                      {"window is -1"}));
  EXPECT_TRUE(BitEqual(out.view(), untouched.view()));
}

TEST_P(AttentionBackendTest, BackwardRefusesBadParamsUntouched) {
  const AttentionInputs in = MakeInputs(10, 4, 2, 8, 92);
  const AttentionPattern pattern{.segments = {{0, 10, 4}}};
  AttentionResults r = RunBoth(*backend_, in, pattern);
  const HostTensor before = r.dq;
  AttentionBackwardParams good{.dout = in.dout.view(),
                               .q = in.q.view(),
                               .k = in.k.view(),
                               .v = in.v.view(),
                               .out = r.out.view(),
                               .lse = r.lse.view(),
                               .pattern = &pattern,
                               .scale = 1.0f,
                               .dq = r.dq.view(),
                               .dk = r.dk.view(),
                               .dv = r.dv.view()};
  AttentionBackwardParams p = good;
  p.lse = {};
  EXPECT_TRUE(Refused(backend_->AttentionBackward(p), {"lse"}));
  p = good;
  p.dk.shape[1] = 1;
  EXPECT_TRUE(Refused(backend_->AttentionBackward(p),
                      {"attention_backward", "dk.shape[1] is 1, must be 2"}));
  p = good;
  p.dq = r.out.view();
  EXPECT_TRUE(
      Refused(backend_->AttentionBackward(p), {"dq is overlapping out"}));
  p = good;
  p.pattern = nullptr;
  EXPECT_TRUE(Refused(backend_->AttentionBackward(p), {"pattern is null"}));
  EXPECT_TRUE(BitEqual(r.dq.view(), before.view()));
}

// Pattern, dtype of products.
}  // namespace
}  // namespace sinklora::kernels
