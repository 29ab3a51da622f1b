// A really trained model: greedy text, likelihood and logits equal those of an
// independent float64 program.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common/model/sampler.h"
#include "tests/common/model/llama2c_model.h"
#include "tests/common/model/serving_fixture.h"

namespace sinklora {
namespace {

class StoriesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* shared = std::getenv("SINKLORA_SHARED_DIR");
    const std::string models =
        JoinPath(shared == nullptr ? "" : shared, "models");
    const std::string weights = JoinPath(models, "stories260K.bin");
    const std::string facts = JoinPath(models, "stories260K.reference.json");
    if (!FileExists(weights) || !FileExists(facts)) {
      GTEST_SKIP() << "SKIPPED: " << weights << " and its reference are not "
                   << "here; set SINKLORA_SHARED_DIR to the shared inputs";
    }
    ASSERT_OK_AND_ASSIGN(served_.disk.directory, TempDir::Create());
    const std::string& path = served_.disk.directory->path();
    ASSERT_OK(testing::ConvertLlama2c(weights, path));
    ASSERT_OK_AND_ASSIGN(served_.disk.files, ModelFiles::Open(path));
    ASSERT_OK_AND_ASSIGN(const std::string text, ReadFile(facts));
    facts_ = nlohmann::json::parse(text);
    served_.backend = OpenTestBackend("cpu");
    ASSERT_OK_AND_ASSIGN(
        served_.weights,
        BaseWeights::Load(served_.backend.get(), *served_.disk.files,
                          WeightType::kFloat32));
    ASSERT_OK_AND_ASSIGN(served_.model,
                         ServedModel::Create(served_.weights, nullptr, 0));
  }

  // Ids of a greedy continuation of the begin token, with it.
  std::vector<int32_t> Greedy(const ResolvedCache& cache, size_t count) {
    std::vector<int32_t> ids = {1};
    const auto sequence =
        NewSequence(served_, cache, static_cast<int64_t>(count));
    EXPECT_OK(sequence->Prefill(ids, true));
    while (ids.size() < count) {
      const SampleRequest request{.logits = sequence->device_logits()};
      const auto next =
          SampleTokens(served_.backend.get(), {&request, 1}).front();
      EXPECT_TRUE(next.ok()) << next.status();
      ids.push_back(*next);
      if (ids.size() == count) break;
      EXPECT_OK(sequence->Decode(*next));
    }
    return ids;
  }

  Served served_;
  nlohmann::json facts_;
};

TEST_F(StoriesTest, GreedyTokens) {
  const auto want = facts_["greedy_ids"].get<std::vector<int32_t>>();
  ASSERT_GE(want.size(), 200u);
  EXPECT_EQ(Greedy(FullCache(), want.size()), want);
  // A budget of the length changes nothing.
  EXPECT_EQ(Greedy(H2oCache(100, 4, 400), want.size()), want);
}

TEST_F(StoriesTest, PromptLikelihood) {
  const auto prompt = facts_["prompt_ids"].get<std::vector<int32_t>>();
  ASSERT_OK_AND_ASSIGN(const auto score,
                       served_.model->Score(prompt, 1, nullptr));
  EXPECT_NEAR(score.nll_sum / static_cast<double>(score.scored_tokens),
              facts_["prompt_mean_nll"].get<double>(), 1e-5);
}

TEST_F(StoriesTest, Logits) {
  const auto prompt = facts_["prompt_ids"].get<std::vector<int32_t>>();
  const auto n = static_cast<int64_t>(prompt.size());
  const Trace first = RunSequence(served_, FullCache(), {prompt[0]}, 1, 1);
  EXPECT_TRUE(testing::AllClose(
      first.logits[0], facts_["logits_first"].get<std::vector<double>>(),
      2e-4));
  const auto last = facts_["logits_last"].get<std::vector<double>>();
  const Trace whole = RunSequence(served_, FullCache(), prompt, n, n);
  EXPECT_TRUE(testing::AllClose(whole.logits[0], last, 2e-4));
  const Trace decoded = RunSequence(served_, FullCache(), prompt, 1, 1);
  EXPECT_TRUE(testing::AllClose(decoded.logits.back(), last, 2e-4));
}

}  // namespace
}  // namespace sinklora
