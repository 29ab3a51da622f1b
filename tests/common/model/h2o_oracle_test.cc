// Logits and kept sets of every step against the literal double-precision
// definition of H2O.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/common/model/serving_fixture.h"
#include "tests/testing/reference_model/reference_sequence.h"

namespace sinklora {
namespace {

using testing::ReferencePolicy;
using testing::ReferenceSequence;

struct Case {
  const char* name;
  int64_t kv_heads;
  ResolvedCache cache;
  int64_t prompt;
};

const Case kCases[] = {
    {"Mha", 4, H2oCache(6, 2, 8), 30},
    {"Gqa", 2, H2oCache(6, 2, 8), 30},
    {"Mqa", 1, H2oCache(6, 0, 6), 30},
    {"NoRecent", 2, H2oCache(0, 0, 10), 30},
    {"ShortPrompt", 2, H2oCache(4, 0, 12), 9},
    {"OneTokenPrompt", 2, H2oCache(2, 1, 5), 1},
    {"BudgetOne", 2, H2oCache(0, 0, 1), 12},
    {"Window", 2, {CachePolicyKind::kSlidingWindow, 9, 9, 0, 0}, 30},
    {"Streaming", 2, {CachePolicyKind::kStreamingLlm, 9, 6, 3, 0}, 30},
};

class H2oOracleTest : public ::testing::TestWithParam<Case> {};

void Compare(const Case& c, const Served& served, ReferenceSequence* oracle,
             const std::vector<int32_t>& tokens) {
  const Trace got = RunSequence(served, c.cache, tokens, c.prompt, 11);
  for (int64_t t = 0; t < static_cast<int64_t>(tokens.size()); ++t) {
    const std::vector<double> want =
        oracle->Feed(tokens[t], /*evict=*/t + 1 >= c.prompt);
    if (t + 1 < c.prompt) continue;
    const size_t step = t + 1 - c.prompt;
    EXPECT_TRUE(testing::AllClose(got.logits[step], want, 2e-4, 2e-4))
        << "step " << step;
    for (int64_t l = 0; l < 2; ++l) {
      for (int64_t h = 0; h < c.kv_heads; ++h) {
        EXPECT_EQ(got.kept[step][l * c.kv_heads + h], oracle->Kept(l, h))
            << "step " << step << " layer " << l << " head " << h;
      }
    }
  }
}

TEST_P(H2oOracleTest, SameKeptSetsAndLogits) {
  const Case& c = GetParam();
  LlamaConfig config = SmallConfig(true);
  config.num_kv_heads = c.kv_heads;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const Served served = Serve(config, seed);
    const bool by_score = c.cache.policy == CachePolicyKind::kH2o;
    ReferenceSequence oracle(&served.disk.reference,
                             {c.cache.budget_tokens, c.cache.recent_tokens,
                              c.cache.sink_tokens, by_score});
    Compare(c, served, &oracle, RandomTokens(60, 48, seed));
    // Had two scores been within rounding of each other, this would compare
    // luck: choose another seed then.
    EXPECT_GT(oracle.smallest_margin(), 1e-5) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, H2oOracleTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

// Every architecture, under policies that keep tokens inside and outside of its
// window of 5 or 6 tokens.
TEST(ArchitectureOracleTest, SameKeptSetsAndLogits) {
  const Case cases[] = {
      {"Full", 2, FullCache(), 20},
      {"H2o", 2, H2oCache(2, 1, 3), 20},
      {"H2oWide", 2, H2oCache(6, 2, 8), 30},
      {"Window", 2, {CachePolicyKind::kSlidingWindow, 4, 4, 0, 0}, 20},
      {"Streaming", 2, {CachePolicyKind::kStreamingLlm, 9, 6, 3, 0}, 20},
  };
  for (const NamedConfig& architecture : SmallArchitectures()) {
    for (const char* backend : {"cpu", "reference"}) {
      const Served served =
          Serve(architecture.config, 4, WeightType::kFloat32, 0, backend);
      for (const Case& c : cases) {
        SCOPED_TRACE(std::string(architecture.name) + c.name + backend);
        const bool full = c.cache.policy == CachePolicyKind::kFull;
        const bool by_score = c.cache.policy == CachePolicyKind::kH2o;
        ReferenceSequence oracle(
            &served.disk.reference,
            {full ? 0 : c.cache.budget_tokens, c.cache.recent_tokens,
             c.cache.sink_tokens, by_score});
        Compare(c, served, &oracle, RandomTokens(50, 48, 2));
        EXPECT_GT(oracle.smallest_margin(), 1e-5);
      }
    }
  }
}

// RoPE scaling is honoured while tokens are evicted.
TEST(H2oRopeTest, LinearScalingWithEviction) {
  LlamaConfig config = SmallConfig(true);
  config.rope_theta = 500000;
  Served served = Serve(config, 5, WeightType::kFloat32, /*context=*/160);
  EXPECT_DOUBLE_EQ(served.model->rope_factor(), 2.5);
  served.disk.reference.rope_factor = 2.5;
  const Case c = {"", 2, H2oCache(6, 2, 8), 30};
  ReferenceSequence oracle(&served.disk.reference, {16, 6, 2, true});
  Compare(c, served, &oracle, RandomTokens(100, 48, 3));
}

}  // namespace
}  // namespace sinklora
