// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "tests/kernels/cache_attention/cache_fixture.h"
#include "tests/kernels/tolerances.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::TensorNear;
using testing::Tolerance;

struct Decoded {
  HostTensor out, growth, victims, slots;
};

struct Rule {
  int64_t window = 0, sink_tokens = 0, recent_tokens = 0;
};

Decoded Room(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  return {HostTensor::NaNs(DType::kF32, {heads, head_dim}, 1),
          HostTensor::NaNs(DType::kF32, {kv_heads}),
          HostTensor::Ints({kv_heads}, std::vector<int32_t>(kv_heads, -7)),
          HostTensor::Ints({kv_heads}, std::vector<int32_t>(kv_heads, -7))};
}

// Of the last of its tokens, [tokens, n, head_dim] as [n, head_dim].
ConstTensorView LastOf(const HostTensor& x) {
  const ConstTensorView view = x.view();
  const auto& shape = view.shape;
  return {view.Rows(shape[0] - 1, 1).data, view.dtype, {shape[1], shape[2]}};
}

// Where token `position` lies in a kv head or, if nowhere, an empty slot.
int64_t SlotOf(const Cache& cache, int64_t h, int64_t position) {
  int64_t empty = -1;
  for (int64_t j = 0; j < cache.used; ++j) {
    const double held = cache.positions.Get(h, j);
    if (held == static_cast<double>(position)) return j;
    if (held < 0) empty = j;
  }
  return empty;
}

// Takes what is in a slot out of the cache: memory is NaN again.
void Clear(Cache& cache, int64_t h, int64_t slot) {
  cache.positions.Set(-1, h, slot);
  const auto& view = cache.k.view();
  if (view.dtype == DType::kI8) {
    cache.k_scale.Set(NAN, h, slot);
    cache.v_scale.Set(NAN, h, slot);
    return;
  }
  for (int64_t d = 0; d < view.shape[2]; ++d) {
    cache.k.Set(NAN, h, slot, d);
    cache.v.Set(NAN, h, slot, d);
  }
}

// One step of the last token of x, with all bookkeeping. The token is not in
// the cache yet.
DecodedToken TokenFor(const Tokens& x, Cache& cache, const Rule& rule,
                      Decoded* r) {
  const int64_t last = x.q.view().shape[0] - 1;
  for (int64_t h = 0; h < cache.k.view().shape[0]; ++h) {
    const int64_t slot = SlotOf(cache, h, last);
    r->slots.Set(static_cast<double>(slot), h);
    Clear(cache, h, slot);
  }
  return {.q = LastOf(x.q),
          .k = LastOf(x.k),
          .v = LastOf(x.v),
          .slots = r->slots.view(),
          .position = static_cast<int32_t>(last),
          .cache = cache.view(),
          .out = r->out.view(),
          .scores = cache.scores.view(),
          .growth = r->growth.view(),
          .victims = r->victims.view(),
          .sink_tokens = rule.sink_tokens,
          .recent_tokens = rule.recent_tokens};
}

Status DecodeOne(Backend& backend, const DecodedToken& token, float scale,
                 int64_t window) {
  return backend.CacheDecode(
      {.tokens = {&token, 1}, .scale = scale, .window = window});
}

Decoded Decode(Backend& backend, const Tokens& x, Cache& cache,
               const Rule& rule = {}) {
  const auto& q = x.q.view().shape;
  Decoded r = Room(q[1], cache.k.view().shape[0], q[2]);
  EXPECT_TRUE(Ok(DecodeOne(backend, TokenFor(x, cache, rule, &r), ScaleOf(x),
                           rule.window)));
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
    const HostTensor before = cache.positions;
    DecodedToken token = TokenFor(x, cache, c.rule, &r);
    if (c.scores.empty()) token.scores = token.growth = TensorView();
    ASSERT_TRUE(Ok(DecodeOne(*backend_, token, ScaleOf(x), c.rule.window)));
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

TEST_P(CacheDecodeTest, WithoutBookkeepingNothingButTokenAndOutIsWritten) {
  const Shape s{40, 4, 2, 16, DType::kF32, 0};
  const Tokens x = MakeTokens(s.tokens, s.heads, s.kv_heads, s.head_dim, 7);
  Cache cache = Filled(*backend_, x, s);
  const Cache before = cache;
  Decoded with_books = Room(4, 2, 16);
  Decoded r = Room(4, 2, 16);
  DecodedToken token = TokenFor(x, cache, {}, &r);
  token.scores = token.growth = token.victims = TensorView();
  ASSERT_TRUE(Ok(DecodeOne(*backend_, token, ScaleOf(x), 0)));
  EXPECT_TRUE(BitEqual(cache.scores.view(), before.scores.view()));
  EXPECT_TRUE(BitEqual(cache.positions.view(), before.positions.view()));
  EXPECT_TRUE(BitEqual(cache.k.view(), before.k.view()));
  EXPECT_TRUE(BitEqual(cache.v.view(), before.v.view()));
  token = TokenFor(x, cache, {}, &with_books);
  ASSERT_TRUE(Ok(DecodeOne(*backend_, token, ScaleOf(x), 0)));
  EXPECT_TRUE(BitEqual(r.out.view(), with_books.out.view()));
}

// What CacheWrite leaves of a token is what decoding it leaves.
TEST_P(CacheDecodeTest, StoresTheTokenAsCacheWriteDoes) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
    const Shape s{30, 2, 2, 24, dtype, 1};
    const Tokens x = MakeTokens(s.tokens, s.heads, s.kv_heads, s.head_dim, 2);
    Cache cache = Filled(*backend_, x, s);
    const Cache before = cache;
    Decode(*backend_, x, cache, {0, 100, 0});  // evicts nothing
    EXPECT_TRUE(BitEqual(cache.k.view(), before.k.view()));
    EXPECT_TRUE(BitEqual(cache.v.view(), before.v.view()));
    EXPECT_TRUE(BitEqual(cache.k_scale.view(), before.k_scale.view()));
    EXPECT_TRUE(BitEqual(cache.v_scale.view(), before.v_scale.view()));
    EXPECT_TRUE(BitEqual(cache.positions.view(), before.positions.view()));
    EXPECT_TRUE(cache.k.GapsUntouched());
  }
}

TEST_P(CacheDecodeTest, RefusesBadParamsUntouched) {
  const Tokens x = MakeTokens(6, 4, 2, 8, 8);
  Cache cache = EmptyCache(DType::kF32, 2, 6, 8);
  Write(*backend_, x, 0, 5, cache, InOrder);
  cache.used = 6;
  Cache second_cache = cache;
  Decoded r = Room(4, 2, 8), second = Room(4, 2, 8);
  const std::vector<DecodedToken> good = {
      TokenFor(x, cache, {}, &r), TokenFor(x, second_cache, {}, &second)};
  const auto refused_batch =
      [&](auto change, std::initializer_list<std::string_view> parts) {
        std::vector<DecodedToken> tokens = good;
        CacheDecodeParams p{.tokens = tokens, .scale = ScaleOf(x)};
        change(&p, &tokens[1]);
        EXPECT_TRUE(Refused(backend_->CacheDecode(p), parts));
      };
  const auto refused = [&](auto change,
                           std::initializer_list<std::string_view> parts) {
    refused_batch([&](auto*, auto* t) { change(t); }, parts);
  };
  refused_batch([](auto* p, auto*) { p->scale = NAN; },
                {"cache_decode: scale"});
  refused_batch([](auto* p, auto*) { p->window = -1; }, {"window is -1"});
  refused([](auto* t) { t->position = -1; },
          {"cache_decode: tokens[1].position is -1"});
  refused([](auto* t) { t->growth = TensorView(); }, {"growth", "scores"});
  refused([](auto* t) { t->sink_tokens = -2; }, {"sink_tokens is -2"});
  refused([](auto* t) { t->recent_tokens = -3; }, {"recent_tokens is -3"});
  refused([](auto* t) { t->cache.used = 7; }, {"cache.used is 7"});
  refused([](auto* t) { t->k.shape[0] = 1; }, {"tokens[1].k.shape[0] is 1"});
  refused(
      [](auto* t) {
        t->q.shape[0] = 3;
        t->out.shape[0] = 3;
      },
      {"q.shape[0] is 3", "a multiple of 2"});
  refused(
      [](auto* t) {
        t->q.shape[0] = 2;
        t->out.shape[0] = 2;
      },
      {"tokens[1].q.shape[0] is 2", "4 (as of the first token)"});
  refused([](auto* t) { t->victims.shape[0] = 1; }, {"victims"});
  second.slots.Set(6, 1);
  refused([](auto*) {}, {"cache_decode", "slots", "is 6", "in [0, 6)"});
  EXPECT_TRUE(std::isnan(r.out.Get(0, 0)));
  EXPECT_EQ(r.victims.Get(0), -7.0);
  EXPECT_TRUE(Ok(backend_->CacheDecode({})));
}

// Sequences of one family: of different lengths, policies and rules.
struct Batch {
  std::vector<Tokens> tokens;
  std::vector<Cache> caches;
  std::vector<Decoded> results;
  std::vector<Rule> rules;
  int64_t window = 0;

  void Add(const Shape& s, const Rule& rule, uint64_t seed) {
    tokens.push_back(
        MakeTokens(s.tokens, s.heads, s.kv_heads, s.head_dim, seed));
    caches.push_back(Filled(*Open("reference"), tokens.back(), s));
    results.push_back(Room(s.heads, s.kv_heads, s.head_dim));
    rules.push_back(rule);
  }
  // Of these, in this order, in one call. Some have scores, some a budget.
  void Decode(Backend& backend, const std::vector<size_t>& members) {
    std::vector<DecodedToken> batch;
    for (const size_t i : members) {
      DecodedToken& t = batch.emplace_back(
          TokenFor(tokens[i], caches[i], rules[i], &results[i]));
      if (i % 3 == 1) t.scores = t.growth = TensorView();
      if (i % 3 == 2) t.victims = TensorView();
    }
    EXPECT_TRUE(Ok(backend.CacheDecode(
        {.tokens = batch, .scale = ScaleOf(tokens[0]), .window = window})));
  }
};

TEST(CacheDecodeTestedTest, EverySequenceHasTheBitsItHasAlone) {
  const std::vector<int64_t> lengths =
      Emulated() ? std::vector<int64_t>{1, 130, 600, 40, 300}
                 : std::vector<int64_t>{1, 1300, 511, 40, 2100, 512, 7};
  for (const Shape& family :
       {Shape{0, 4, 2, 32, DType::kF32, 1}, Shape{0, 9, 1, 64, DType::kBF16, 0},
        Shape{0, 3, 3, 24, DType::kI8, 0}}) {
    Batch start;
    if (family.kv_heads == 1) start.window = 50;
    for (size_t i = 0; i < lengths.size(); ++i) {
      Shape s = family;
      s.tokens = lengths[i];
      start.Add(s, {start.window, static_cast<int64_t>(i), 8}, 40 + i);
    }
    std::vector<size_t> all(lengths.size());
    std::iota(all.begin(), all.end(), 0);
    Batch alone = start;
    const auto one = Open(kTested, 1);
    for (const size_t i : all) alone.Decode(*one, {i});
    for (const int threads : {1, 3}) {
      for (const bool reversed : {false, true}) {
        Batch together = start;
        std::vector<size_t> members = all;
        if (reversed) std::reverse(members.begin(), members.end());
        together.Decode(*Open(kTested, threads), members);
        for (const size_t i : all) {
          SCOPED_TRACE(::testing::Message() << "sequence " << i);
          const Decoded& got = together.results[i];
          const Decoded& want = alone.results[i];
          EXPECT_TRUE(BitEqual(got.out.view(), want.out.view()));
          EXPECT_TRUE(BitEqual(got.growth.view(), want.growth.view()));
          EXPECT_TRUE(BitEqual(got.victims.view(), want.victims.view()));
          EXPECT_TRUE(BitEqual(together.caches[i].scores.view(),
                               alone.caches[i].scores.view()));
          EXPECT_TRUE(BitEqual(together.caches[i].positions.view(),
                               alone.caches[i].positions.view()));
          EXPECT_TRUE(
              BitEqual(together.caches[i].k.view(), alone.caches[i].k.view()));
        }
        if (Emulated()) break;  // one grid at a time: threads are none there
      }
      if (Emulated()) break;
    }
  }
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
