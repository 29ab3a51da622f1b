// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/attention/attention.h"
#include "tests/kernels/backends.h"
#include "tests/kernels/cache_attention/cache_fixture.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::TensorNear;
using testing::Tolerance;

struct Shape {
  int64_t tokens, heads, kv_heads, head_dim;
  DType dtype;
  int64_t padding;
};

std::vector<Shape> Shapes() {
  return {{1, 1, 1, 8, DType::kF32, 0},    {3, 4, 2, 16, DType::kF32, 0},
          {63, 6, 2, 24, DType::kBF16, 3}, {64, 2, 2, 64, DType::kF32, 1},
          {65, 4, 1, 40, DType::kBF16, 0}, {150, 8, 2, 8, DType::kF32, 0},
          {1, 1, 1, 8, DType::kI8, 0},     {67, 6, 2, 24, DType::kI8, 3},
          {131, 8, 1, 64, DType::kI8, 0},  {65, 2, 2, 40, DType::kI8, 1}};
}

class CacheWindowTest : public ::testing::TestWithParam<int64_t> {};

INSTANTIATE_TEST_SUITE_P(All, CacheWindowTest,
                         ::testing::Values(0, 1, 7, 64, 90));

TEST_P(CacheWindowTest, MatchesReferenceWithHolesAndShuffledSlots) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  const int64_t window = GetParam();
  for (const Shape& s : Shapes()) {
    if (Emulated() && s.tokens * s.heads > 140) continue;
    const Tokens x = MakeTokens(s.tokens, s.heads, s.kv_heads, s.head_dim, 1);
    const int64_t slots = 2 * s.tokens + 4;
    Cache cache = EmptyCache(s.dtype, s.kv_heads, slots, s.head_dim, s.padding);
    Write(*cpu, x, 0, s.tokens, cache, Shuffled);
    cache.used = s.tokens + s.tokens / 3 + 2;
    Cache other = cache;
    const Attended got = Attend(*cpu, x, 0, s.tokens, cache, window);
    const Attended want = Attend(*reference, x, 0, s.tokens, other, window);
    const Tolerance tolerance = AttentionTolerance(s.head_dim, kLargestScore);
    EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(), tolerance));
    EXPECT_TRUE(TensorNear(got.lse.view(), want.lse.view(), tolerance));
    AddColumnSums(*cpu, x, 0, s.tokens, want.lse, cache, window);
    AddColumnSums(*reference, x, 0, s.tokens, want.lse, other, window);
    Tolerance sums = tolerance;
    sums.of_largest += 2.0 * kF32Rounding * std::sqrt(double(s.tokens) * 8.0);
    EXPECT_TRUE(TensorNear(cache.scores.view(), other.scores.view(), sums));
  }
}

class CacheTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = Open(GetParam());
};

INSTANTIATE_TEST_SUITE_P(All, CacheTest,
                         ::testing::Values("reference", kTested));

// Slots in token order are plain causal attention.
TEST_P(CacheTest, EqualsTrainingAttention) {
  for (const auto& [tokens, window] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 0}, {64, 0}, {131, 0}, {131, 1}, {131, 65}, {131, 131}}) {
    const Tokens x = MakeTokens(tokens, 4, 2, 16, 3);
    Cache cache = EmptyCache(DType::kF32, 2, tokens + 9, 16);
    Write(*backend_, x, 0, tokens, cache, InOrder);
    cache.used = tokens;
    const Attended got = Attend(*backend_, x, 0, tokens, cache, window);
    const AttentionPattern full{.segments = {{0, tokens, tokens}},
                                .window = window};
    HostTensor want = HostTensor::NaNs(DType::kF32, {tokens, 4, 16});
    ASSERT_TRUE(Ok(backend_->AttentionForward({.q = x.q.view(),
                                               .k = x.k.view(),
                                               .v = x.v.view(),
                                               .pattern = &full,
                                               .scale = ScaleOf(x),
                                               .out = want.view()})));
    EXPECT_TRUE(TensorNear(got.out.view(), want.view(),
                           AttentionTolerance(16, kLargestScore)));
  }
}

// Chunked prefill and token-by-token decode give the bits of one shot, in
// outputs and in scores.
TEST_P(CacheTest, ChunksGiveTheBitsOfOneShot) {
  for (const auto& [dtype, window] :
       std::vector<std::pair<DType, int64_t>>{{DType::kF32, 0},
                                              {DType::kBF16, 0},
                                              {DType::kI8, 0},
                                              {DType::kI8, 9},
                                              {DType::kF32, 9},
                                              {DType::kF32, 70}}) {
    const int64_t tokens = Emulated() ? 70 : 140;
    const Tokens x = MakeTokens(tokens, 6, 2, 24, 5);
    Cache whole = EmptyCache(dtype, 2, 160, 24);
    Write(*backend_, x, 0, tokens, whole, InOrder);
    whole.used = tokens;
    const Attended want = Attend(*backend_, x, 0, tokens, whole, window);
    AddColumnSums(*backend_, x, 0, tokens, want.lse, whole, window);
    for (int64_t chunk : {1, 7, 33, 64, 100}) {
      if (Emulated() && chunk != 33 && chunk != 64) continue;
      Cache cache = EmptyCache(dtype, 2, 160, 24);
      Write(*backend_, x, 0, tokens, cache, InOrder);
      cache.used = tokens;
      for (int64_t first = 0; first < tokens; first += chunk) {
        const int64_t count = std::min(chunk, tokens - first);
        const Attended got = Attend(*backend_, x, first, count, cache, window);
        ASSERT_TRUE(
            BitEqual(got.out.view(), want.out.view().Rows(first, count)));
        AddColumnSums(*backend_, x, first, count, got.lse, cache, window);
      }
      EXPECT_TRUE(BitEqual(cache.scores.view(), whole.scores.view()));
    }
  }
}

// A cache that is filled as tokens come equals one that is filled ahead: what a
// token must not see changes nothing.
TEST_P(CacheTest, LaterTokensInTheCacheDoNotShow) {
  const int64_t tokens = Emulated() ? 20 : 130;
  const Tokens x = MakeTokens(tokens, 2, 1, 16, 6);
  Cache ahead = EmptyCache(DType::kF32, 1, tokens, 16);
  Write(*backend_, x, 0, tokens, ahead, InOrder);
  ahead.used = tokens;
  Cache growing = EmptyCache(DType::kF32, 1, tokens, 16);
  for (int64_t t = 0; t < tokens; ++t) {
    Write(*backend_, x, t, 1, growing, InOrder);
    growing.used = t + 1;
    ASSERT_TRUE(BitEqual(Attend(*backend_, x, t, 1, growing).out.view(),
                         Attend(*backend_, x, t, 1, ahead).out.view()))
        << t;
  }
}

TEST_P(CacheTest, OneStepAddsQueriesTimesGroupToTheScores) {
  const Tokens x = MakeTokens(90, 6, 2, 16, 7);
  for (const int64_t window : {0, 11}) {
    Cache cache = EmptyCache(DType::kF32, 2, 200, 16);
    Write(*backend_, x, 0, 90, cache, Shuffled);
    cache.used = 125;
    const Attended r = Attend(*backend_, x, 0, 90, cache, window);
    AddColumnSums(*backend_, x, 0, 90, r.lse, cache, window);
    for (int64_t h = 0; h < 2; ++h) {
      EXPECT_TRUE(std::fabs(SumOfScores(cache, h) - 90 * 3) <= 90 * 3 * 1e-5);
      for (int64_t j = 0; j < 200; ++j) {
        if (cache.positions.Get(h, j) >= 0) continue;
        EXPECT_EQ(cache.scores.Get(h, j), 0.0);
      }
    }
  }
}

TEST_P(CacheTest, WriteRoundsAndTouchesNothingElse) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Tokens x = MakeTokens(3, 2, 2, 8, 8);
    Cache cache = EmptyCache(dtype, 2, 5, 8, 1);
    Write(*backend_, x, 0, 3, cache,
          [](int64_t h, int64_t t) { return h == 0 ? 4 - t : t; });
    EXPECT_TRUE(cache.k.GapsUntouched() && cache.v.GapsUntouched());
    for (int64_t d = 0; d < 8; ++d) {
      const float k = static_cast<float>(x.k.Get(1, 0, d));
      const double want = dtype == DType::kF32 ? k : FromBf16(ToBf16(k));
      EXPECT_EQ(cache.k.Get(0, 3, d), want);
      EXPECT_EQ(cache.v.Get(1, 2, d),
                dtype == DType::kF32
                    ? x.v.Get(2, 1, d)
                    : FromBf16(ToBf16(static_cast<float>(x.v.Get(2, 1, d)))));
      EXPECT_TRUE(std::isnan(cache.k.Get(0, 1, d)));
    }
    EXPECT_EQ(cache.positions.Get(0, 2), 2);
    EXPECT_EQ(cache.positions.Get(0, 0), -1);
    EXPECT_EQ(cache.positions.Get(1, 0), 0);
  }
}

// Every element within half a step of its row, rows on their own.
TEST_P(CacheTest, CodedRowsAreWithinHalfAStep) {
  Tokens x = MakeTokens(6, 2, 2, 24, 18);
  for (int64_t d = 0; d < 24; ++d) {
    x.k.Set(0, 1, 0, d);                   // all zeros
    x.k.Set(d == 7 ? -1e30 : 1, 2, 0, d);  // an outlier
    x.k.Set(d * 1e-44, 3, 0, d);           // below what codes can hold
    x.k.Set(d % 2 == 0 ? 3.4e38 : -3.4e38, 4, 0, d);
  }
  x.k.Set(std::nan(""), 5, 0, 3);
  x.v.Set(INFINITY, 5, 1, 0);
  Cache cache = EmptyCache(DType::kI8, 2, 9, 24, 2);
  Write(*backend_, x, 0, 6, cache,
        [](int64_t h, int64_t t) { return h == 0 ? 8 - t : t + 1; });
  EXPECT_TRUE(cache.k.GapsUntouched() && cache.v.GapsUntouched());
  EXPECT_TRUE(cache.k_scale.GapsUntouched() && cache.v_scale.GapsUntouched());
  for (int64_t t = 0; t < 6; ++t) {
    for (int64_t h = 0; h < 2; ++h) {
      const int64_t slot = h == 0 ? 8 - t : t + 1;
      for (const bool key : {true, false}) {
        const HostTensor& from = key ? x.k : x.v;
        const HostTensor& codes = key ? cache.k : cache.v;
        const double scale = (key ? cache.k_scale : cache.v_scale).Get(h, slot);
        if (t == 5 && h == (key ? 0 : 1)) {
          EXPECT_TRUE(std::isnan(scale)) << "a row that is not finite shows";
          continue;
        }
        double top = 0;
        for (int64_t d = 0; d < 24; ++d) {
          top = std::max(top, std::abs(from.Get(t, h, d)));
        }
        EXPECT_NEAR(scale, top / 127, 1e-6 * top / 127 + 1e-44);
        for (int64_t d = 0; d < 24; ++d) {
          EXPECT_NEAR(codes.Get(h, slot, d) * scale, from.Get(t, h, d),
                      top / 254 * (1 + 1e-5) + 1e-42);
        }
      }
    }
  }
  EXPECT_TRUE(std::isnan(cache.k_scale.Get(0, 1)));  // not written
}

// A coded cache attends as an f32 cache does that holds what the codes mean.
TEST_P(CacheTest, CodesAttendAsWhatTheyStandFor) {
  const Tokens x = MakeTokens(90, 6, 2, 24, 19);
  Cache coded = EmptyCache(DType::kI8, 2, 200, 24);
  Cache plain = EmptyCache(DType::kF32, 2, 200, 24);
  Write(*backend_, x, 0, 90, coded, Shuffled);
  Write(*backend_, x, 0, 90, plain, Shuffled);
  coded.used = plain.used = 125;
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t j = 0; j < 125; ++j) {
      if (plain.positions.Get(h, j) < 0) continue;
      for (int64_t d = 0; d < 24; ++d) {
        plain.k.Set(coded.k.Get(h, j, d) * coded.k_scale.Get(h, j), h, j, d);
        plain.v.Set(coded.v.Get(h, j, d) * coded.v_scale.Get(h, j), h, j, d);
      }
    }
  }
  const Tolerance tolerance = AttentionTolerance(24, kLargestScore);
  const Attended got = Attend(*backend_, x, 0, 90, coded);
  const Attended want = Attend(*backend_, x, 0, 90, plain);
  EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(), tolerance));
  EXPECT_TRUE(TensorNear(got.lse.view(), want.lse.view(), tolerance));
}

TEST_P(CacheTest, CompactMovesEveryPartOfASlot) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
    for (bool with_scores : {true, false}) {
      const Tokens x = MakeTokens(6, 2, 2, 8, 9);
      Cache cache = EmptyCache(dtype, 2, 7, 8);
      Write(*backend_, x, 0, 6, cache, InOrder);
      cache.used = 6;
      cache.scores = HostTensor::Random(DType::kF32, {2, 7}, 10);
      const Cache before = cache;
      const std::vector<std::vector<int64_t>> keep{{0, 2, 5}, {3, 4, 5}};
      const HostTensor kept = HostTensor::Ints({2, 3}, {0, 2, 5, 3, 4, 5});
      CacheCompactParams p{.cache = cache.view(), .keep = kept.view()};
      if (with_scores) p.scores = cache.scores.view();
      ASSERT_TRUE(Ok(backend_->CacheCompact(p)));
      for (int64_t h = 0; h < 2; ++h) {
        for (int64_t i = 0; i < 3; ++i) {
          const int64_t from = keep[h][i];
          for (int64_t d = 0; d < 8; ++d) {
            EXPECT_EQ(cache.k.Get(h, i, d), before.k.Get(h, from, d));
            EXPECT_EQ(cache.v.Get(h, i, d), before.v.Get(h, from, d));
          }
          if (dtype == DType::kI8) {
            EXPECT_EQ(cache.k_scale.Get(h, i), before.k_scale.Get(h, from));
            EXPECT_EQ(cache.v_scale.Get(h, i), before.v_scale.Get(h, from));
          }
          EXPECT_EQ(cache.positions.Get(h, i), before.positions.Get(h, from));
          EXPECT_EQ(cache.scores.Get(h, i),
                    before.scores.Get(h, with_scores ? from : i));
        }
        for (int64_t i = 3; i < 7; ++i) {
          EXPECT_EQ(cache.positions.Get(h, i), -1);
          EXPECT_EQ(cache.scores.Get(h, i),
                    with_scores ? 0.0 : before.scores.Get(h, i));
        }
      }
    }
  }
}

TEST_P(CacheTest, NothingToDoIsFine) {
  const Tokens x = MakeTokens(0, 2, 1, 8, 11);
  Cache cache = EmptyCache(DType::kF32, 1, 4, 8);
  Write(*backend_, x, 0, 0, cache, InOrder);
  Attend(*backend_, x, 0, 0, cache);
  const HostTensor none = HostTensor::Zeros(DType::kI32, {1, 0});
  EXPECT_TRUE(
      Ok(backend_->CacheCompact({.cache = cache.view(), .keep = none.view()})));
}

TEST_P(CacheTest, RefusesBadParamsUntouched) {
  const Tokens x = MakeTokens(2, 2, 1, 8, 12);
  Cache cache = EmptyCache(DType::kF32, 1, 4, 8);
  const HostTensor position = Range(0, 2);
  for (int32_t bad : {4, -1}) {
    EXPECT_TRUE(
        Refused(backend_->CacheWrite(
                    {.k = x.k.view(),
                     .v = x.v.view(),
                     .position = position.view(),
                     .slots = HostTensor::Ints({1, 2}, {0, bad}).view(),
                     .cache = cache.view()}),
                {"cache_write", "slots[0][1]", std::to_string(bad), "[0, 4)"}));
  }
  EXPECT_EQ(cache.positions.Get(0, 0), -1);

  HostTensor out = HostTensor::Zeros(DType::kF32, {2, 2, 8});
  CacheAttentionParams p{.q = x.q.view(),
                         .position = position.view(),
                         .cache = cache.view(),
                         .scale = 1.0f,
                         .out = out.view()};
  EXPECT_TRUE(Refused(backend_->CacheAttention(p),
                      {"cache_attention", "position[0]", "no visible slot"}));
  p.window = -1;
  EXPECT_TRUE(Refused(backend_->CacheAttention(p), {"window is -1"}));
  p.window = 0;
  p.product_dtype = DType::kI8;
  EXPECT_TRUE(Refused(backend_->CacheAttention(p),
                      {"cache_attention: product_dtype", "f32 or bf16"}));
  p.product_dtype = DType::kF32;
  p.cache.used = 5;
  EXPECT_TRUE(
      Refused(backend_->CacheAttention(p), {"cache.used is 5", "[0, 4]"}));
  p.cache = cache.view();
  p.cache.v.dtype = DType::kBF16;
  EXPECT_TRUE(Refused(backend_->CacheAttention(p), {"cache.v.dtype"}));
  p.cache = cache.view();
  p.cache.k_scale = cache.k_scale.view();
  EXPECT_TRUE(
      Refused(backend_->CacheAttention(p), {"cache.k_scale", "i8 storage"}));
  Cache coded = EmptyCache(DType::kI8, 1, 4, 8);
  p.cache = coded.view();
  p.cache.v_scale = TensorView();
  EXPECT_TRUE(Refused(backend_->CacheAttention(p), {"cache.v_scale"}));

  for (const auto& keep :
       {std::vector<int32_t>{1, 1}, {2, 1}, {0, 4}, {-1, 2}}) {
    EXPECT_TRUE(Refused(
        backend_->CacheCompact({.cache = cache.view(),
                                .keep = HostTensor::Ints({1, 2}, keep).view()}),
        {"cache_compact", "keep[0]"}));
  }
}

// A window may leave a query nothing of what is held.
TEST_P(CacheTest, RefusesQueriesWhoseWindowIsEmpty) {
  const Tokens x = MakeTokens(9, 2, 1, 8, 12);
  Cache cache = EmptyCache(DType::kF32, 1, 9, 8);
  Write(*backend_, x, 0, 4, cache, InOrder);
  cache.used = 4;
  HostTensor out = HostTensor::Zeros(DType::kF32, {1, 2, 8});
  for (const DType product : {DType::kF32, DType::kBF16}) {
    const auto attend = [&](int32_t position, int64_t window) {
      return backend_->CacheAttention({.q = x.q.view().Rows(0, 1),
                                       .position = Range(position, 1).view(),
                                       .cache = cache.view(),
                                       .scale = 1.0f,
                                       .window = window,
                                       .out = out.view(),
                                       .product_dtype = product});
    };
    EXPECT_TRUE(Ok(attend(6, 4)));  // sees the token at 3
    EXPECT_TRUE(Refused(attend(6, 3), {"position[0] is 6", "no visible slot"}));
  }
}

TEST(CacheCpuTest, ThreadsDoNotChangeBits) {
  for (const DType dtype : {DType::kBF16, DType::kI8}) {
    const Tokens x = MakeTokens(200, 8, 4, 32, 13);
    Cache filled = EmptyCache(dtype, 4, 300, 32);
    Write(*Open(kTested), x, 0, 200, filled, Shuffled);
    filled.used = 270;
    const auto run = [&](int threads, Cache& cache) {
      cache = filled;
      const auto backend = Open(kTested, threads);
      const Attended r = Attend(*backend, x, 0, 200, cache);
      AddColumnSums(*backend, x, 0, 200, r.lse, cache);
      return r;
    };
    Cache one;
    const Attended want = run(1, one);
    for (int threads : {2, 3}) {
      Cache many;
      const Attended got = run(threads, many);
      EXPECT_TRUE(BitEqual(got.out.view(), want.out.view()));
      EXPECT_TRUE(BitEqual(got.lse.view(), want.lse.view()));
      EXPECT_TRUE(BitEqual(many.scores.view(), one.scores.view()));
    }
  }
}

}  // namespace
}  // namespace sinklora::kernels
