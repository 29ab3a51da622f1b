// What PlanSequence says against what a sequence takes.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/common/model/serving_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;

constexpr int64_t kPrompt = 600;  // two chunks and a part of one
constexpr int64_t kTokens = 640;

struct Case {
  const char* name;
  ResolvedCache cache;
  int64_t kv_heads;
};

ResolvedCache Stored(ResolvedCache cache, CacheStorage storage) {
  cache.storage = storage;
  return cache;
}

class SequencePlanTest : public ::testing::TestWithParam<Case> {};

TEST_P(SequencePlanTest, IsWhatASequenceTakes) {
  LlamaConfig config = SmallConfig(/*tied=*/false);
  config.num_kv_heads = GetParam().kv_heads;
  config.max_position_embeddings = kTokens;
  const Served served = Serve(config, 3);
  kernels::Backend* backend = served.backend.get();
  const SequencePlan plan =
      PlanSequence(*served.model, GetParam().cache, kTokens, kPrompt);
  const std::vector<int32_t> tokens =
      RandomTokens(kTokens, config.vocab_size, 5);

  const int64_t before = backend->allocated_bytes();
  backend->ResetPeak();
  ASSERT_OK_AND_ASSIGN(
      auto sequence,
      Sequence::Create(served.model, GetParam().cache, kTokens, kPrompt));
  const std::span<const int32_t> prompt(tokens.data(), kPrompt);
  ASSERT_OK(sequence->Prefill(prompt.first(400), false));
  ASSERT_OK(sequence->Prefill(prompt.subspan(400), true));
  const auto prefill = static_cast<double>(backend->peak_bytes() - before);
  backend->ResetPeak();
  for (int64_t t = kPrompt; t < kTokens; ++t) {
    ASSERT_OK(sequence->Decode(tokens[t]));
  }
  const auto decode = static_cast<double>(backend->peak_bytes() - before);
  EXPECT_NEAR(static_cast<double>(plan.prefill_bytes) / prefill, 1, 0.02);
  EXPECT_NEAR(static_cast<double>(plan.decode_bytes) / decode, 1, 0.02);
}

INSTANTIATE_TEST_SUITE_P(
    All, SequencePlanTest,
    ::testing::Values(
        Case{"Full", FullCache(), 4}, Case{"FullGrouped", FullCache(), 2},
        Case{"FullBf16", Stored(FullCache(), CacheStorage::kBfloat16), 4},
        Case{"FullInt8", Stored(FullCache(), CacheStorage::kInt8), 2},
        Case{"H2o", H2oCache(64, 4, 60), 4},
        Case{"H2oInt8", Stored(H2oCache(64, 4, 60), CacheStorage::kInt8), 2},
        Case{"BudgetBeyondThePrompt", H2oCache(500, 4, 116), 2}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(SequencePromptTest, LengthsAreHeldToWhatWasSaid) {
  LlamaConfig config = SmallConfig(/*tied=*/false);
  const Served served = Serve(config, 3);
  EXPECT_THAT(Sequence::Create(served.model, FullCache(), 20, 21),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::HasSubstr("prompt_tokens")));
  ASSERT_OK_AND_ASSIGN(auto sequence,
                       Sequence::Create(served.model, FullCache(), 20, 10));
  const std::vector<int32_t> tokens = RandomTokens(11, config.vocab_size, 5);
  ASSERT_OK(sequence->Prefill(std::span(tokens).first(6), false));
  EXPECT_THAT(sequence->Prefill(std::span(tokens).subspan(6), true),
              StatusIs(absl::StatusCode::kOutOfRange,
                       ::testing::HasSubstr("prompt would have 11")));
  ASSERT_OK(sequence->Prefill(std::span(tokens).subspan(6, 4), true));
  EXPECT_OK(sequence->Decode(tokens[10]));
}

}  // namespace
}  // namespace sinklora
