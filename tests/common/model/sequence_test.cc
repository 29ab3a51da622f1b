// A sequence over every cache policy: bits, memory, isolation, errors.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "common/model/internal/sequence_impl.h"
#include "tests/common/model/serving_fixture.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

const std::vector<int32_t>& Tokens() {
  static const auto* tokens =
      new std::vector<int32_t>(RandomTokens(60, 48, 77));
  return *tokens;
}

std::vector<ResolvedCache> AllCaches() {
  return {FullCache(),
          H2oCache(8, 2, 10),
          H2oCache(0, 0, 12),
          {CachePolicyKind::kSlidingWindow, 16, 16, 0, 0},
          {CachePolicyKind::kStreamingLlm, 16, 12, 4, 0}};
}

TEST(SequenceTest, ChunksOfAnySizeGiveTheSameBits) {
  for (const WeightType type : {WeightType::kFloat32, WeightType::kBfloat16,
                                WeightType::kInt8, WeightType::kInt4}) {
    const Served served = Serve(SmallConfig(true), 1, type);
    for (const ResolvedCache& cache : AllCaches()) {
      const Trace whole = RunSequence(served, cache, Tokens(), 45, 45);
      for (const int64_t chunk : {1, 7, 64}) {
        EXPECT_EQ(RunSequence(served, cache, Tokens(), 45, chunk), whole)
            << "chunk " << chunk;
      }
    }
  }
}

constexpr CacheStorage kStorages[] = {
    CacheStorage::kFloat32, CacheStorage::kBfloat16, CacheStorage::kInt8};

// Bytes of one token in one layer of SmallConfig: 2 kv heads of 8.
int64_t TokenBytes(CacheStorage storage) {
  switch (storage) {
    case CacheStorage::kFloat32:
      return 2 * 2 * 8 * 4;
    case CacheStorage::kBfloat16:
      return 2 * 2 * 8 * 2;
    case CacheStorage::kInt8:
      return 2 * 2 * (8 + 4);
  }
  return 0;
}

// Every storage keeps the rules of the cache: chunks, H2O's score invariant
// (each step checks it), what is kept, and the accounting.
TEST(SequenceTest, EveryStorageKeepsTheRules) {
  const Served served = Serve(SmallConfig(true), 1);
  for (const CacheStorage storage : kStorages) {
    for (ResolvedCache cache : AllCaches()) {
      cache.storage = storage;
      const Trace whole = RunSequence(served, cache, Tokens(), 45, 45);
      EXPECT_EQ(RunSequence(served, cache, Tokens(), 45, 7), whole);
      const bool full = cache.policy == CachePolicyKind::kFull;
      const int64_t slots = full ? 60 : cache.budget_tokens + 1;
      EXPECT_EQ(whole.usage.resident_bytes, 2 * slots * TokenBytes(storage));
      EXPECT_EQ(whole.usage.peak_resident_bytes,
                2 * std::max<int64_t>(slots, 45) * TokenBytes(storage));
    }
    ResolvedCache budget = H2oCache(30, 0, 30);
    budget.storage = storage;
    ResolvedCache full = FullCache();
    full.storage = storage;
    EXPECT_EQ(RunSequence(served, budget, Tokens(), 40, 40).logits,
              RunSequence(served, full, Tokens(), 40, 40).logits);
  }
}

// Keys and values are off by 2^-9 (bf16) or half a step of their row (int8, at
// most 1 / 254 of its largest) in each of two layers, and both enter the
// result: four times that, of the largest logit.
TEST(SequenceTest, EveryStorageStaysCloseToF32) {
  const Served served = Serve(SmallConfig(true), 1);
  const Trace want = RunSequence(served, FullCache(), Tokens(), 20, 20);
  for (const auto& [storage, tolerance] :
       {std::pair{CacheStorage::kBfloat16, 4 * 4 * 0x1p-9},
        std::pair{CacheStorage::kInt8, 4 * 4 / 254.0}}) {
    ResolvedCache cache = FullCache();
    cache.storage = storage;
    const Trace got = RunSequence(served, cache, Tokens(), 20, 20);
    EXPECT_NE(got.logits, want.logits);
    for (size_t step = 0; step < want.logits.size(); ++step) {
      double largest = 0;
      for (const float x : want.logits[step]) {
        largest = std::max<double>(largest, std::abs(x));
      }
      for (size_t i = 0; i < want.logits[step].size(); ++i) {
        ASSERT_NEAR(got.logits[step][i], want.logits[step][i],
                    tolerance * largest)
            << "step " << step;
      }
    }
  }
}

TEST(SequenceTest, BudgetOfTheLengthIsTheFullCacheBitForBit) {
  const Served served = Serve(SmallConfig(true), 1);
  const Trace full = RunSequence(served, FullCache(), Tokens(), 40, 40);
  for (const ResolvedCache& cache :
       {H2oCache(30, 0, 30), H2oCache(20, 4, 36), H2oCache(500, 4, 496),
        ResolvedCache{CachePolicyKind::kSlidingWindow, 60, 60, 0, 0},
        ResolvedCache{CachePolicyKind::kStreamingLlm, 60, 56, 4, 0}}) {
    const Trace got = RunSequence(served, cache, Tokens(), 40, 40);
    EXPECT_EQ(got, full);
    EXPECT_EQ(got.usage.evicted_tokens, 0);
    EXPECT_EQ(got.usage.resident_tokens, 60);
  }
}

TEST(SequenceTest, H2oWithoutHeavyHittersIsAWindow) {
  const Served served = Serve(SmallConfig(true), 1);
  EXPECT_EQ(RunSequence(served, H2oCache(16, 0, 0), Tokens(), 40, 40),
            RunSequence(served, {CachePolicyKind::kSlidingWindow, 16, 16, 0, 0},
                        Tokens(), 40, 40));
  EXPECT_EQ(RunSequence(served, H2oCache(12, 4, 0), Tokens(), 40, 40),
            RunSequence(served, {CachePolicyKind::kStreamingLlm, 16, 12, 4, 0},
                        Tokens(), 40, 40));
}

TEST(SequenceTest, WindowsKeepExactlyTheirPositions) {
  const Served served = Serve(SmallConfig(true), 1);
  const Trace streaming = RunSequence(
      served, {CachePolicyKind::kStreamingLlm, 8, 5, 3, 0}, Tokens(), 20, 20);
  for (size_t step = 0; step < streaming.kept.size(); ++step) {
    const auto latest = static_cast<int32_t>(19 + step);
    const std::vector<int32_t> want = {
        0, 1, 2, latest - 4, latest - 3, latest - 2, latest - 1, latest};
    for (const auto& kept : streaming.kept[step]) EXPECT_EQ(kept, want);
  }
}

TEST(SequenceTest, PromptShorterThanTheBudgetEvictsOnlyWhenDecodingCrossesIt) {
  const Served served = Serve(SmallConfig(true), 1);
  const Trace full = RunSequence(served, FullCache(), Tokens(), 10, 10);
  const Trace h2o = RunSequence(served, H2oCache(8, 2, 6), Tokens(), 10, 10);
  for (size_t step = 0; step < h2o.kept.size(); ++step) {
    for (const auto& kept : h2o.kept[step]) {
      EXPECT_EQ(kept.size(), std::min<size_t>(10 + step, 16));
    }
    // Evicting after step 7 shows in the logits of the next one.
    if (step <= 7) {
      EXPECT_EQ(h2o.logits[step], full.logits[step]) << step;
    }
  }
  EXPECT_EQ(h2o.usage.evicted_tokens, 44);
}

TEST(SequenceTest, WhatWasEvictedNeverComesBack) {
  const Served served = Serve(SmallConfig(true), 1);
  for (const ResolvedCache& cache : AllCaches()) {
    const Trace trace = RunSequence(served, cache, Tokens(), 30, 30);
    for (size_t head = 0; head < trace.kept[0].size(); ++head) {
      for (size_t step = 1; step < trace.kept.size(); ++step) {
        const auto& before = trace.kept[step - 1][head];
        std::set<int32_t> allowed(before.begin(), before.end());
        allowed.insert(static_cast<int32_t>(29 + step));
        for (const int32_t p : trace.kept[step][head]) {
          EXPECT_TRUE(allowed.contains(p)) << p << " at step " << step;
        }
      }
    }
  }
}

TEST(SequenceTest, MemoryAfterPrefillIsTheBudgets) {
  const Served served = Serve(SmallConfig(true), 1);
  const int64_t idle = served.backend->allocated_bytes();
  const auto sequence = NewSequence(served, H2oCache(4, 0, 4), 60);
  ASSERT_OK(sequence->Prefill({Tokens().data(), 50}, true));
  const int64_t slot_bytes = 2 * 2 * 2 * 8 * 4;  // layers, K and V, heads, f32
  EXPECT_EQ(sequence->usage().resident_tokens, 8);
  EXPECT_EQ(sequence->usage().resident_bytes, 9 * slot_bytes);
  EXPECT_EQ(sequence->usage().peak_resident_bytes, 50 * slot_bytes);
  EXPECT_EQ(sequence->usage().evicted_tokens, 42);
  // Not only counted: beside K and V there are positions, scores, the table of
  // the last chunk, and the logits.
  EXPECT_LT(served.backend->allocated_bytes() - idle,
            9 * slot_bytes + 9 * 2 * 2 * 8 + 50 * 12 + 48 * 4 + 64);
  const int64_t steady = served.backend->allocated_bytes();
  for (int i = 0; i < 10; ++i) ASSERT_OK(sequence->Decode(Tokens()[50 + i]));
  EXPECT_LT(served.backend->allocated_bytes(), steady + 20000);  // one token
  EXPECT_EQ(sequence->usage().resident_bytes, 9 * slot_bytes);
}

class SequenceTypesTest : public ::testing::TestWithParam<WeightType> {};

INSTANTIATE_TEST_SUITE_P(
    All, SequenceTypesTest,
    ::testing::Values(WeightType::kFloat32, WeightType::kBfloat16,
                      WeightType::kInt8, WeightType::kInt4),
    [](const auto& info) { return std::string(NameOf(info.param)); });

// A sequence of each cache behind a prompt of its own length: its whole trace
// when it runs alone, and one that is to be decoded together with the others.
void StartEveryCache(const Served& served, std::vector<Trace>* alone,
                     std::vector<Trace>* together,
                     std::vector<std::unique_ptr<Sequence>>* sequences) {
  const std::vector<ResolvedCache> caches = AllCaches();
  for (size_t i = 0; i < caches.size(); ++i) {
    alone->push_back(RunSequence(served, caches[i], Tokens(), 20 + 3 * i, 64));
    sequences->push_back(NewSequence(served, caches[i], 60));
    Sequence& sequence = *sequences->back();
    ASSERT_OK(sequence.Prefill({Tokens().data(), 20 + 3 * i}, true));
    Record(served, sequence, &(*together)[i]);
  }
}

// Interleaved with others, a sequence has the bits it has alone.
TEST_P(SequenceTypesTest, InterleavedEqualsAlone) {
  const Served served = Serve(SmallConfig(false), 1, GetParam());
  const std::vector<ResolvedCache> caches = AllCaches();
  std::vector<Trace> alone, together(caches.size());
  std::vector<std::unique_ptr<Sequence>> sequences;
  ASSERT_NO_FATAL_FAILURE(
      StartEveryCache(served, &alone, &together, &sequences));
  for (int step = 0; step < 40; ++step) {
    for (size_t i = 0; i < caches.size(); ++i) {
      if (i == 2 && step == 5) sequences[2].reset();  // one leaves
      const size_t at = 20 + 3 * i + step;
      if (sequences[i] == nullptr || at >= Tokens().size()) continue;
      ASSERT_OK(sequences[i]->Decode(Tokens()[at]));
      Record(served, *sequences[i], &together[i]);
    }
  }
  for (size_t i = 0; i < caches.size(); ++i) {
    if (i == 2) continue;
    EXPECT_EQ(together[i], alone[i]) << i;
  }
}

// And in one batch, which others join and leave.
TEST_P(SequenceTypesTest, BatchedEqualsAlone) {
  const Served served = Serve(SmallConfig(false), 1, GetParam());
  const std::vector<ResolvedCache> caches = AllCaches();
  std::vector<Trace> alone, together(caches.size());
  std::vector<std::unique_ptr<Sequence>> sequences;
  ASSERT_NO_FATAL_FAILURE(
      StartEveryCache(served, &alone, &together, &sequences));
  const auto decoder = BatchDecoder::Create();
  for (size_t step = 0; step < 80; ++step) {
    std::vector<Sequence*> batch;
    std::vector<int32_t> tokens;
    std::vector<size_t> members;
    for (size_t i = 0; i < caches.size(); ++i) {
      const auto at = static_cast<size_t>(sequences[i]->position());
      if ((step + i) % 3 == 0 || at >= Tokens().size()) continue;
      batch.push_back(sequences[i].get());
      tokens.push_back(Tokens()[at]);
      members.push_back(i);
    }
    for (const absl::Status& status : decoder->Decode(batch, tokens)) {
      ASSERT_OK(status);
    }
    for (const size_t i : members) {
      Record(served, *sequences[i], &together[i]);
    }
  }
  for (size_t i = 0; i < caches.size(); ++i) {
    ASSERT_EQ(sequences[i]->position(), 60);
    EXPECT_EQ(together[i], alone[i]) << i;
  }
}

// Of several targets, and with a row that cannot be: the others are served.
TEST(SequenceTest, BatchKeepsTargetsAndFailuresApart) {
  const Served served = Serve(SmallConfig(true), 1);
  Served other = Serve(SmallConfig(true), 1);
  ASSERT_OK_AND_ASSIGN(other.model,
                       ServedModel::Create(served.weights, nullptr, 2 * 64));
  const Trace want = RunSequence(served, FullCache(), Tokens(), 20, 64);
  const Trace want_scaled = RunSequence(other, FullCache(), Tokens(), 20, 64);
  ASSERT_NE(want.logits, want_scaled.logits);
  const auto plain = NewSequence(served, FullCache(), 60);
  const auto scaled = NewSequence(other, FullCache(), 60);
  const auto full = NewSequence(served, FullCache(), 20);
  for (const auto& sequence : {plain.get(), scaled.get(), full.get()}) {
    ASSERT_OK(sequence->Prefill({Tokens().data(), 20}, true));
  }
  const auto empty = NewSequence(served, FullCache(), 60);
  Sequence* const batch[] = {full.get(), plain.get(), empty.get(),
                             scaled.get()};
  const int32_t tokens[] = {Tokens()[20], Tokens()[20], 1, Tokens()[20]};
  const std::vector<absl::Status> outcomes =
      BatchDecoder::Create()->Decode(batch, tokens);
  ASSERT_EQ(outcomes.size(), 4);
  EXPECT_THAT(outcomes[0], StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_OK(outcomes[1]);
  EXPECT_THAT(outcomes[2], StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(outcomes[3]);
  const auto logits_of = [](const Sequence& sequence) {
    return sequence.logits().value_or(std::vector<float>());
  };
  EXPECT_EQ(logits_of(*plain), want.logits[1]);
  EXPECT_EQ(logits_of(*scaled), want_scaled.logits[1]);
  // What was refused was not changed.
  EXPECT_EQ(full->position(), 20);
  EXPECT_OK(empty->Prefill({Tokens().data(), 20}, true));
}

// The logits of a sequence are its own until its next token, whatever else is
// decoded meanwhile, and stay where they are: no step allocates for them.
TEST(SequenceTest, LogitsLastUntilTheNextToken) {
  const Served served = Serve(SmallConfig(true), 1);
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<Sequence*> batch;
  for (int i = 0; i < 3; ++i) {
    sequences.push_back(NewSequence(served, FullCache(), 60));
    EXPECT_TRUE(sequences[i]->device_logits().empty());
    EXPECT_THAT(sequences[i]->logits(),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    ASSERT_OK(sequences[i]->Prefill({Tokens().data(), 20u + i}, true));
    batch.push_back(sequences[i].get());
  }
  const auto decoder = BatchDecoder::Create();
  const std::vector<int32_t> tokens = {1, 2, 3};
  for (const auto& status : decoder->Decode(batch, tokens)) ASSERT_OK(status);
  ASSERT_OK_AND_ASSIGN(const auto of_first, batch[0]->logits());
  const std::span<Sequence* const> others = std::span(batch).subspan(1);
  int64_t bytes = 0;
  for (int step = 0; step < 4; ++step) {
    for (const auto& status : decoder->Decode(others, {{4, 5}})) {
      ASSERT_OK(status);
    }
    ASSERT_OK_AND_ASSIGN(const auto still, batch[0]->logits());
    EXPECT_EQ(still, of_first);
    if (step > 0) {
      EXPECT_EQ(served.backend->allocated_bytes(), bytes);
    }
    bytes = served.backend->allocated_bytes();
  }
  ASSERT_OK_AND_ASSIGN(const auto of_second, batch[1]->logits());
  EXPECT_NE(of_second, of_first);
}

TEST(SequenceTest, ScoresGrowByQueriesTimesGroup) {
  const Served served = Serve(SmallConfig(true), 1);
  const auto sequence = NewSequence(served, H2oCache(500, 0, 500), 60);
  const auto& cache =
      static_cast<internal::SequenceImpl*>(sequence.get())->cache();
  const auto expect_sum = [&](double tokens) {
    for (int layer = 0; layer < 2; ++layer) {
      for (int head = 0; head < 2; ++head) {
        double sum = 0;
        const auto scores = cache.KeptScores(layer, head);
        ASSERT_OK(scores);
        for (const float s : *scores) sum += s;
        EXPECT_TRUE(std::abs(sum - 2 * tokens) <= 1e-4 * 2 * tokens)
            << sum << " after " << tokens;
      }
    }
  };
  ASSERT_OK(sequence->Prefill({Tokens().data(), 13}, false));
  expect_sum(13);
  ASSERT_OK(sequence->Prefill({Tokens().data() + 13, 7}, true));
  expect_sum(20);
  for (int i = 20; i < 30; ++i) {
    ASSERT_OK(sequence->Decode(Tokens()[i]));
    expect_sum(i + 1);
  }
}

TEST(SequenceTest, RetainedAttentionIsWhatVictimsLeave) {
  const Served served = Serve(SmallConfig(true), 1);
  const auto ratio_of = [&](const ResolvedCache& cache) {
    const auto sequence = NewSequence(served, cache, 60);
    EXPECT_OK(sequence->Prefill({Tokens().data(), 40}, true));
    for (int i = 40; i < 60; ++i) EXPECT_OK(sequence->Decode(Tokens()[i]));
    const auto ratio = sequence->RetainedAttentionRatio();
    EXPECT_OK(ratio);
    return ratio.value_or(-1);
  };
  EXPECT_EQ(ratio_of(FullCache()), 1);
  EXPECT_EQ(ratio_of({CachePolicyKind::kSlidingWindow, 16, 16, 0, 0}), 1);
  // Nothing evicted: all of it, but for rounding.
  const double whole = ratio_of(H2oCache(500, 0, 500));
  EXPECT_TRUE(whole <= 1 && whole > 1 - 1e-4) << whole;
  // The less is kept, the less of it; heavy hitters hold more than a window.
  const double heavy = ratio_of(H2oCache(4, 0, 12));
  const double window = ratio_of(H2oCache(16, 0, 0));
  const double small = ratio_of(H2oCache(2, 0, 2));
  EXPECT_TRUE(heavy < whole && small < heavy && window < heavy)
      << whole << " " << heavy << " " << window << " " << small;
  EXPECT_GT(small, 0);
  // From the scores themselves.
  const auto sequence = NewSequence(served, H2oCache(4, 0, 12), 60);
  ASSERT_OK(sequence->Prefill({Tokens().data(), 40}, true));
  const auto& cache =
      static_cast<internal::SequenceImpl*>(sequence.get())->cache();
  double kept = 0;
  for (int layer = 0; layer < 2; ++layer) {
    for (int head = 0; head < 2; ++head) {
      ASSERT_OK_AND_ASSIGN(const auto scores, cache.KeptScores(layer, head));
      for (const float s : scores) kept += s;
    }
  }
  ASSERT_OK_AND_ASSIGN(const double ratio, sequence->RetainedAttentionRatio());
  EXPECT_DOUBLE_EQ(ratio, kept / (2 * 4 * 40));
}

// A weight that turns into infinity must fail the request, not choose victims.
TEST(SequenceTest, NonFiniteScoresFailTheRequest) {
  Served served = Serve(SmallConfig(true), 1);
  auto& wk = served.disk.reference.tensors.at(
      "model.layers.0.self_attn.k_proj.weight");
  wk.values[0] = std::numeric_limits<double>::quiet_NaN();
  ASSERT_OK(testing::WriteReferenceModel(served.disk.reference,
                                         served.disk.directory->path()));
  ASSERT_OK_AND_ASSIGN(const auto files,
                       ModelFiles::Open(served.disk.directory->path()));
  ASSERT_OK_AND_ASSIGN(
      const auto weights,
      BaseWeights::Load(served.backend.get(), *files, WeightType::kFloat32));
  ASSERT_OK_AND_ASSIGN(served.model, ServedModel::Create(weights, nullptr, 0));
  const auto sequence = NewSequence(served, H2oCache(4, 0, 4), 60);
  const absl::Status status = sequence->Prefill({Tokens().data(), 20}, true);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(GetErrorDetail(status).reason, "SCORE_INVARIANT");
  // And it stays failed.
  EXPECT_THAT(sequence->Prefill({Tokens().data(), 20}, true),
              StatusIs(absl::StatusCode::kInternal));
}

TEST(SequenceTest, RefusesByName) {
  const Served served = Serve(SmallConfig(true), 1);
  EXPECT_THAT(Sequence::Create(served.model, FullCache(), 65),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("max_tokens of a sequence is 65")));
  EXPECT_THAT(
      Sequence::Create(served.model, H2oCache(8, 0, -8), 60),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("budget is 0")));
  const auto sequence = NewSequence(served, FullCache(), 10);
  EXPECT_THAT(sequence->Decode(1),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(sequence->Prefill({}, true),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(
      sequence->Prefill({{1, 48}}, true),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token 1 is 48")));
  EXPECT_THAT(sequence->Prefill({Tokens().data(), 11}, true),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("at most 10")));
  // None of these broke it.
  ASSERT_OK(sequence->Prefill({Tokens().data(), 10}, true));
  EXPECT_THAT(sequence->Prefill({{1}}, true),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(sequence->Decode(1), StatusIs(absl::StatusCode::kOutOfRange));
}

}  // namespace
}  // namespace sinklora
