// Serving attention with products of bf16 operands, which GPUs have.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

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

class CacheProductWindowTest : public ::testing::TestWithParam<int64_t> {};

INSTANTIATE_TEST_SUITE_P(All, CacheProductWindowTest,
                         ::testing::Values(0, 7, 90));

// With products of bf16 operands, on every dimension that they pad to; rows of
// one tile and of several, slots that end within a tile.
TEST_P(CacheProductWindowTest, MatchesReferenceWithHoles) {
  const auto tested = Open(kTested, 3);
  const auto reference = Open("reference");
  const int64_t window = GetParam();
  struct Shape {
    int64_t tokens, heads, kv_heads, head_dim;
    DType dtype;
    int64_t padding;
  };
  const std::vector<Shape> shapes = {
      {1, 1, 1, 8, DType::kBF16, 0},    {33, 4, 2, 24, DType::kF32, 1},
      {63, 2, 2, 64, DType::kBF16, 3},  {67, 6, 2, 72, DType::kI8, 0},
      {70, 2, 1, 96, DType::kBF16, 0},  {47, 3, 1, 128, DType::kI8, 3},
      {90, 8, 2, 128, DType::kBF16, 0}, {40, 4, 1, 136, DType::kBF16, 0}};
  for (const Shape& s : shapes) {
    if (Emulated() && window == 90 && s.tokens > 40) continue;
    SCOPED_TRACE(s.head_dim);
    const Tokens x = MakeTokens(s.tokens, s.heads, s.kv_heads, s.head_dim, 21);
    Cache cache = EmptyCache(s.dtype, s.kv_heads, 2 * s.tokens + 4, s.head_dim,
                             s.padding);
    Write(*tested, x, 0, s.tokens, cache, Shuffled);
    cache.used = s.tokens + s.tokens / 3 + 2;
    Cache other = cache;
    const Attended got =
        Attend(*tested, x, 0, s.tokens, cache, window, DType::kBF16);
    const Attended want = Attend(*reference, x, 0, s.tokens, other, window);
    const Tolerance tolerance =
        AttentionTolerance(s.head_dim, kLargestScore, DType::kBF16);
    EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(), tolerance));
    EXPECT_TRUE(TensorNear(got.lse.view(), want.lse.view(), tolerance));
    AddColumnSums(*tested, x, 0, s.tokens, got.lse, cache, window,
                  DType::kBF16);
    AddColumnSums(*reference, x, 0, s.tokens, want.lse, other, window);
    EXPECT_TRUE(
        TensorNear(cache.scores.view(), other.scores.view(), tolerance));
    // What every query pays is what it pays with exact products.
    const double paid = static_cast<double>(s.tokens * s.heads / s.kv_heads);
    for (int64_t h = 0; h < s.kv_heads; ++h) {
      EXPECT_NEAR(SumOfScores(cache, h), paid, paid * 1e-5);
    }
  }
}

TEST(CacheProductTest, ChunksGiveTheBitsOfOneShot) {
  const auto backend = Open(kTested);
  for (const auto& storage_and_window : std::vector<std::pair<DType, int64_t>>{
           {DType::kBF16, 0}, {DType::kI8, 9}, {DType::kF32, 50}}) {
    const DType dtype = storage_and_window.first;
    const int64_t window = storage_and_window.second;
    const int64_t tokens = Emulated() ? 70 : 140;
    const Tokens x = MakeTokens(tokens, 6, 2, 24, 22);
    Cache whole = EmptyCache(dtype, 2, 260, 24);
    Write(*backend, x, 0, tokens, whole, Shuffled);
    whole.used = tokens + tokens / 3 + 2;
    const auto attend = [&](int64_t first, int64_t count, Cache& cache) {
      Attended r =
          Attend(*backend, x, first, count, cache, window, DType::kBF16);
      AddColumnSums(*backend, x, first, count, r.lse, cache, window,
                    DType::kBF16);
      return r;
    };
    const Cache filled = whole;
    const Attended want = attend(0, tokens, whole);
    for (const int64_t chunk : {1, 7, 33, 64}) {
      if (Emulated() && chunk < 33) continue;
      Cache cache = filled;
      for (int64_t first = 0; first < tokens; first += chunk) {
        const int64_t count = std::min(chunk, tokens - first);
        const Attended got = attend(first, count, cache);
        ASSERT_TRUE(
            BitEqual(got.out.view(), want.out.view().Rows(first, count)));
      }
      EXPECT_TRUE(BitEqual(cache.scores.view(), whole.scores.view()));
    }
  }
}

// Where no slot is empty, tiles that come after all rows are left out.
TEST(CacheProductTest, SlotsInOrderAreTrainingAttention) {
  const auto backend = Open(kTested);
  const int64_t tokens = 131;
  const Tokens x = MakeTokens(tokens, 4, 2, 16, 24);
  for (const int64_t window : {0, 40}) {
    Cache cache = EmptyCache(DType::kBF16, 2, tokens + 9, 16);
    Write(*backend, x, 0, tokens, cache, InOrder);
    cache.used = tokens;
    const Attended got =
        Attend(*backend, x, 0, tokens, cache, window, DType::kBF16);
    const AttentionPattern full{.segments = {{0, tokens, tokens}},
                                .window = window};
    HostTensor want = HostTensor::NaNs(DType::kF32, {tokens, 4, 16});
    ASSERT_TRUE(Ok(backend->AttentionForward({.q = x.q.view(),
                                              .k = x.k.view(),
                                              .v = x.v.view(),
                                              .pattern = &full,
                                              .scale = ScaleOf(x),
                                              .out = want.view(),
                                              .product_dtype = DType::kBF16})));
    EXPECT_TRUE(
        TensorNear(got.out.view(), want.view(),
                   AttentionTolerance(16, kLargestScore, DType::kBF16)));
    AddColumnSums(*backend, x, 0, tokens, got.lse, cache, window, DType::kBF16);
    EXPECT_NEAR(SumOfScores(cache, 1), tokens * 2.0, tokens * 2e-5);
  }
}

// What policies with sinks leave: the first tokens and the last ones.
TEST(CacheProductTest, MatchesReferenceWithSinksAndAGap) {
  const auto tested = Open(kTested);
  const auto reference = Open("reference");
  const Tokens x = MakeTokens(150, 6, 2, 40, 25);
  for (const int64_t window : {0, 45, 130}) {
    Cache cache = EmptyCache(DType::kBF16, 2, 80, 40, 1);
    const auto slot = [](int64_t h, int64_t t) {
      return t < 4 ? 70 + t : (t - 90 + 11 * h) % 60;
    };
    Write(*tested, x, 0, 4, cache, slot);
    Write(*tested, x, 90, 60, cache, slot);
    cache.used = 74;
    Cache other = cache;
    const Attended got =
        Attend(*tested, x, 115, 35, cache, window, DType::kBF16);
    const Attended want = Attend(*reference, x, 115, 35, other, window);
    const Tolerance tolerance =
        AttentionTolerance(40, kLargestScore, DType::kBF16);
    EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(), tolerance));
    AddColumnSums(*tested, x, 115, 35, got.lse, cache, window, DType::kBF16);
    AddColumnSums(*reference, x, 115, 35, want.lse, other, window);
    EXPECT_TRUE(
        TensorNear(cache.scores.view(), other.scores.view(), tolerance));
  }
}

TEST(CacheProductTest, AValueThatIsNotFiniteShowsWhereItIsSeen) {
  if (!std::string_view(kTested).starts_with("cuda")) {
    GTEST_SKIP() << "the CPU leaves out what empty slots hold alone";
  }
  const auto backend = Open(kTested);
  const int64_t tokens = 45;
  Tokens x = MakeTokens(tokens, 4, 2, 16, 23);
  Cache finite = EmptyCache(DType::kBF16, 2, 100, 16);
  Write(*backend, x, 0, tokens, finite, Shuffled);
  x.v.Set(INFINITY, 20, 1, 3);
  Cache cache = EmptyCache(DType::kBF16, 2, 100, 16);
  Write(*backend, x, 0, tokens, cache, Shuffled);
  cache.used = finite.used = 62;
  const Attended want =
      Attend(*backend, x, 0, tokens, finite, 10, DType::kBF16);
  const Attended got = Attend(*backend, x, 0, tokens, cache, 10, DType::kBF16);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < 4; ++h) {
      const bool sees = h / 2 == 1 && t >= 20 && t < 30;
      if (sees) {
        EXPECT_FALSE(std::isfinite(got.out.Get(t, h, 3))) << t << " " << h;
      } else {
        for (int64_t d = 0; d < 16; ++d) {
          EXPECT_EQ(got.out.Get(t, h, d), want.out.Get(t, h, d)) << t;
        }
      }
    }
  }
}

}  // namespace
}  // namespace sinklora::kernels
