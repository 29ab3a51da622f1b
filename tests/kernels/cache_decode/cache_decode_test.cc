// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/kernels/cache_attention/cache_fixture.h"
#include "tests/kernels/tolerances.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::TensorNear;
using testing::Tolerance;

constexpr double kLargestScore = 6.0;

struct Decoded {
  HostTensor out, growth, victims;
};

struct Rule {
  int64_t window = 0, sink_tokens = 0, recent_tokens = 0;
};

// One step of the last token of x, with all bookkeeping.
CacheDecodeParams ParamsFor(const Tokens& x, Cache& cache, const Rule& rule,
                            Decoded* r) {
  const auto& shape = x.q.view().shape;
  const int64_t last = shape[0] - 1;
  CacheDecodeParams p{.q = x.q.view().Rows(last, 1),
                      .position = static_cast<int32_t>(last),
                      .cache = cache.view(),
                      .scale = ScaleOf(x),
                      .window = rule.window,
                      .out = r->out.view(),
                      .scores = cache.scores.view(),
                      .growth = r->growth.view(),
                      .victims = r->victims.view(),
                      .sink_tokens = rule.sink_tokens,
                      .recent_tokens = rule.recent_tokens};
  p.q.rank = 2;
  p.q.shape = {shape[1], shape[2], 1, 1};
  p.q.stride = {shape[2], 1, 1, 1};
  return p;
}

Decoded Room(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  return {HostTensor::NaNs(DType::kF32, {heads, head_dim}, 1),
          HostTensor::NaNs(DType::kF32, {kv_heads}),
          HostTensor::Ints({kv_heads}, std::vector<int32_t>(kv_heads, -7))};
}

Decoded Decode(Backend& backend, const Tokens& x, Cache& cache,
               const Rule& rule = {}) {
  const auto& q = x.q.view().shape;
  Decoded r = Room(q[1], cache.k.view().shape[0], q[2]);
  EXPECT_TRUE(Ok(backend.CacheDecode(ParamsFor(x, cache, rule, &r))));
  EXPECT_TRUE(r.out.GapsUntouched());
  return r;
}

struct Shape {
  int64_t tokens, heads, kv_heads, head_dim;
  DType dtype;
  int64_t padding;
};

// Around the chunks of 512 slots, groups around the register block, and head
// sizes that are no whole vectors.
std::vector<Shape> Shapes() {
  return {{1, 1, 1, 8, DType::kF32, 0},     {2, 4, 2, 16, DType::kBF16, 1},
          {3, 6, 2, 24, DType::kI8, 3},     {64, 5, 1, 64, DType::kF32, 1},
          {381, 9, 1, 40, DType::kBF16, 0}, {384, 2, 2, 128, DType::kF32, 0},
          {385, 8, 1, 64, DType::kI8, 0},   {387, 14, 2, 80, DType::kF32, 2},
          {900, 4, 2, 8, DType::kI8, 1},    {901, 3, 3, 256, DType::kBF16, 0}};
}

Cache Filled(Backend& backend, const Tokens& x, const Shape& s) {
  Cache cache =
      EmptyCache(s.dtype, s.kv_heads, 2 * s.tokens + 4, s.head_dim, s.padding);
  Write(backend, x, 0, s.tokens, cache, Shuffled);
  cache.used = s.tokens + s.tokens / 3 + 2;
  const HostTensor earlier =
      HostTensor::Random(DType::kF32, {s.kv_heads, cache.used}, 77);
  for (int64_t h = 0; h < s.kv_heads; ++h) {
    for (int64_t j = 0; j < cache.used; ++j) {
      if (cache.positions.Get(h, j) < 0) continue;
      cache.scores.Set(std::abs(earlier.Get(h, j)), h, j);
    }
  }
  return cache;
}

class CacheDecodeRuleTest : public ::testing::TestWithParam<Rule> {};

INSTANTIATE_TEST_SUITE_P(All, CacheDecodeRuleTest,
                         ::testing::Values(Rule{}, Rule{0, 4, 10},
                                           Rule{7, 2, 3}, Rule{600, 4, 64},
                                           Rule{1, 0, 0}));

TEST_P(CacheDecodeRuleTest, MatchesReferenceWithHolesAndShuffledSlots) {
  const auto tested = Open(kTested, 3);
  const auto reference = Open("reference");
  for (const Shape& s : Shapes()) {
    SCOPED_TRACE(::testing::Message() << s.tokens << " tokens, " << s.heads
                                      << " heads of " << s.head_dim);
    const Tokens x = MakeTokens(s.tokens, s.heads, s.kv_heads, s.head_dim, 1);
    Cache cache = Filled(*tested, x, s);
    Cache other = cache;
    const Decoded got = Decode(*tested, x, cache, GetParam());
    const Decoded want = Decode(*reference, x, other, GetParam());
    Tolerance tolerance = AttentionTolerance(s.head_dim, kLargestScore);
    EXPECT_TRUE(TensorNear(got.out.view(), want.out.view(), tolerance));
    // Sums of probabilities, and of what rounding left of them.
    tolerance.relative = 2.0 * kF32Rounding *
                         std::sqrt(static_cast<double>(cache.used)) *
                         kLargestScore;
    EXPECT_TRUE(
        TensorNear(cache.scores.view(), other.scores.view(), tolerance));
    EXPECT_TRUE(TensorNear(got.growth.view(), want.growth.view(), tolerance));
    EXPECT_TRUE(BitEqual(got.victims.view(), want.victims.view()));
    EXPECT_TRUE(BitEqual(cache.positions.view(), other.positions.view()));
  }
}

class CacheDecodeTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = Open(GetParam());
};

INSTANTIATE_TEST_SUITE_P(All, CacheDecodeTest,
                         ::testing::Values("reference", kTested));

// The two ways to attend differ in rounding and in nothing else.
TEST_P(CacheDecodeTest, EqualsCacheAttentionOfOneToken) {
  for (const int64_t window : {0, 5, 700}) {
    const Shape s{700, 6, 2, 64, DType::kF32, 0};
    const Tokens x = MakeTokens(s.tokens, s.heads, s.kv_heads, s.head_dim, 3);
    Cache cache = Filled(*backend_, x, s);
    HostTensor want = HostTensor::NaNs(DType::kF32, {1, s.heads, s.head_dim});
    ASSERT_TRUE(Ok(backend_->CacheAttention(
        {.q = x.q.view().Rows(s.tokens - 1, 1),
         .position = Range(static_cast<int32_t>(s.tokens - 1), 1).view(),
         .cache = cache.view(),
         .scale = ScaleOf(x),
         .window = window,
         .out = want.view()})));
    Decoded got = Decode(*backend_, x, cache, {.window = window});
    TensorView flat = want.view();
    flat.rank = 2;
    flat.shape = {s.heads, s.head_dim, 1, 1};
    flat.stride = {s.head_dim, 1, 1, 1};
    EXPECT_TRUE(TensorNear(got.out.view(), flat,
                           AttentionTolerance(s.head_dim, kLargestScore)));
  }
}

// Scores of thousands: a softmax that is one slot, and no overflow on the way.
TEST_P(CacheDecodeTest, LargeLogits) {
  Tokens x = MakeTokens(600, 2, 1, 16, 4);
  for (int64_t d = 0; d < 16; ++d) {
    x.q.Set(d == 0 ? 3e4 : 0, 599, 0, d);
    x.q.Set(d == 0 ? -3e4 : 0, 599, 1, d);
    x.k.Set(d == 0 ? 1 : 0, 17, 0, d);
    x.k.Set(d == 0 ? -1 : 0, 540, 0, d);
  }
  for (int64_t t = 0; t < 600; ++t) {
    if (t != 17 && t != 540) x.k.Set(0, t, 0, 0);
  }
  Cache cache = EmptyCache(DType::kF32, 1, 600, 16);
  Write(*backend_, x, 0, 600, cache, InOrder);
  cache.used = 600;
  const Decoded r = Decode(*backend_, x, cache);
  for (int64_t d = 0; d < 16; ++d) {
    EXPECT_EQ(r.out.Get(0, d), x.v.Get(17, 0, d));
    EXPECT_EQ(r.out.Get(1, d), x.v.Get(540, 0, d));
  }
  EXPECT_EQ(r.growth.Get(0), 2.0);
  EXPECT_EQ(cache.scores.Get(0, 17), 1.0);
  EXPECT_EQ(cache.scores.Get(0, 540), 1.0);
}

TEST_P(CacheDecodeTest, GrowthIsTheGroupAndNaNShows) {
  const Shape s{1100, 12, 2, 32, DType::kBF16, 0};
  Tokens x = MakeTokens(s.tokens, s.heads, s.kv_heads, s.head_dim, 5);
  Cache cache = Filled(*backend_, x, s);
  for (const int64_t window : {0, 30}) {
    const Decoded r = Decode(*backend_, x, cache, {.window = window});
    for (int64_t h = 0; h < 2; ++h) {
      EXPECT_NEAR(r.growth.Get(h), 6.0, 6.0 * 1e-5);
    }
  }
  x.q.Set(std::nan(""), s.tokens - 1, 7, 3);  // a head of the second group
  const Decoded bad = Decode(*backend_, x, cache);
  EXPECT_TRUE(std::isfinite(bad.growth.Get(0)));
  EXPECT_TRUE(std::isnan(bad.growth.Get(1)));
  EXPECT_EQ(bad.victims.Get(1), -1) << "NaN is never lowest";
}

// Positions 10..15; the step attends to position 12 alone, so that the other
// scores stay as they are.
struct VictimCase {
  Rule rule;
  std::vector<double> scores;  // of positions 10.. ; empty: none
  int64_t evicted;             // position, or -1
};

TEST_P(CacheDecodeTest, ChoosesTheVictimOfTheRule) {
  const std::vector<double> scores{40, 10, 30, 10, 20, 5};
  const std::vector<VictimCase> cases{
      {{}, scores, 15},
      {{0, 0, 1}, scores, 11},    // the newest stays; ties: the older
      {{0, 12, 1}, scores, 13},   // sinks are positions, not slots
      {{0, 0, 5}, scores, 10},    // all but one are recent
      {{0, 0, 6}, scores, -1},    // all are
      {{0, 16, 0}, scores, -1},   // all are sinks
      {{6, 0, 0}, scores, 10},    // the next query sees five
      {{5, 20, 20}, scores, 10},  // protection ends with the window
      {{7, 0, 1}, scores, 11},    // none is out of it
      {{}, {}, 10},               // no scores: the oldest
      {{0, 11, 1}, {}, 11},       // StreamingLLM
      {{0, 11, 5}, {}, -1},
  };
  for (const VictimCase& c : cases) {
    SCOPED_TRACE(&c - cases.data());
    Tokens x = MakeTokens(16, 1, 1, 8, 6);
    for (int64_t d = 0; d < 8; ++d) x.q.Set(d == 0 ? 1e5 : 0, 15, 0, d);
    for (int64_t t = 10; t < 16; ++t) x.k.Set(t == 12 ? 1 : 0, t, 0, 0);
    Cache cache = EmptyCache(DType::kF32, 1, 9, 8);
    const auto slot_of = [](int64_t, int64_t t) { return (t * 5) % 8; };
    Write(*backend_, x, 10, 6, cache, slot_of);
    cache.used = 8;
    for (size_t i = 0; i < c.scores.size(); ++i) {
      cache.scores.Set(c.scores[i], 0,
                       slot_of(0, 10 + static_cast<int64_t>(i)));
    }
    Decoded r = Room(1, 1, 8);
    CacheDecodeParams p = ParamsFor(x, cache, c.rule, &r);
    if (c.scores.empty()) p.scores = p.growth = TensorView();
    const HostTensor before = cache.positions;
    ASSERT_TRUE(Ok(backend_->CacheDecode(p)));
    const int64_t slot = c.evicted < 0 ? -1 : slot_of(0, c.evicted);
    EXPECT_EQ(r.victims.Get(0), static_cast<double>(slot));
    for (int64_t j = 0; j < 9; ++j) {
      EXPECT_EQ(cache.positions.Get(0, j), j == slot ? -1 : before.Get(0, j));
    }
    if (slot >= 0 && !c.scores.empty()) {
      EXPECT_EQ(cache.scores.Get(0, slot), 0.0);
    }
  }
}

TEST_P(CacheDecodeTest, WithoutBookkeepingNothingButOutIsWritten) {
  const Shape s{40, 4, 2, 16, DType::kF32, 0};
  const Tokens x = MakeTokens(s.tokens, s.heads, s.kv_heads, s.head_dim, 7);
  Cache cache = Filled(*backend_, x, s);
  const Cache before = cache;
  Decoded with_books = Room(4, 2, 16);
  Decoded r = Room(4, 2, 16);
  CacheDecodeParams p = ParamsFor(x, cache, {}, &r);
  p.scores = p.growth = p.victims = TensorView();
  ASSERT_TRUE(Ok(backend_->CacheDecode(p)));
  EXPECT_TRUE(BitEqual(cache.scores.view(), before.scores.view()));
  EXPECT_TRUE(BitEqual(cache.positions.view(), before.positions.view()));
  ASSERT_TRUE(Ok(backend_->CacheDecode(ParamsFor(x, cache, {}, &with_books))));
  EXPECT_TRUE(BitEqual(r.out.view(), with_books.out.view()));
}

TEST_P(CacheDecodeTest, RefusesBadParamsUntouched) {
  const Tokens x = MakeTokens(6, 4, 2, 8, 8);
  Cache cache = EmptyCache(DType::kF32, 2, 6, 8);
  Write(*backend_, x, 0, 5, cache, InOrder);
  cache.used = 5;
  Decoded r = Room(4, 2, 8);
  const CacheDecodeParams good = ParamsFor(x, cache, {}, &r);
  const auto refused = [&](auto change,
                           std::initializer_list<std::string_view> parts) {
    CacheDecodeParams p = good;
    change(&p);
    EXPECT_TRUE(Refused(backend_->CacheDecode(p), parts));
  };
  refused([](auto* p) { p->window = 1; },
          {"cache_decode", "position is 5", "kv head 0", "no visible slot"});
  refused([](auto* p) { p->position = -1; }, {"position is -1"});
  refused([](auto* p) { p->scale = NAN; }, {"scale"});
  refused([](auto* p) { p->growth = TensorView(); }, {"growth", "scores"});
  refused([](auto* p) { p->sink_tokens = -2; }, {"sink_tokens is -2"});
  refused([](auto* p) { p->recent_tokens = -3; }, {"recent_tokens is -3"});
  refused([](auto* p) { p->cache.used = 7; }, {"cache.used is 7"});
  refused(
      [](auto* p) {
        p->q.shape[0] = 3;
        p->out.shape[0] = 3;
      },
      {"q.shape[0] is 3", "a multiple of 2"});
  refused([](auto* p) { p->victims.shape[0] = 1; }, {"victims"});
  EXPECT_TRUE(std::isnan(r.out.Get(0, 0)));
  EXPECT_EQ(r.victims.Get(0), -7.0);
}

TEST(CacheDecodeTestedTest, ThreadsDoNotChangeBits) {
  for (const Shape& s : {Shape{1500, 8, 2, 32, DType::kBF16, 0},
                         Shape{1500, 3, 3, 64, DType::kI8, 0},
                         Shape{800, 4, 4, 24, DType::kF32, 0}}) {
    const Tokens x = MakeTokens(s.tokens, s.heads, s.kv_heads, s.head_dim, 9);
    const Cache filled = Filled(*Open(kTested), x, s);
    Cache one = filled;
    const Decoded want = Decode(*Open(kTested, 1), x, one, {0, 4, 16});
    for (int threads : {2, 3}) {
      Cache many = filled;
      const Decoded got = Decode(*Open(kTested, threads), x, many, {0, 4, 16});
      EXPECT_TRUE(BitEqual(got.out.view(), want.out.view()));
      EXPECT_TRUE(BitEqual(got.growth.view(), want.growth.view()));
      EXPECT_TRUE(BitEqual(got.victims.view(), want.victims.view()));
      EXPECT_TRUE(BitEqual(many.scores.view(), one.scores.view()));
    }
  }
}

}  // namespace
}  // namespace sinklora::kernels
