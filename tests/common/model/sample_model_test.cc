// The committed sample model in every type of weights: what lower precision
// costs on text.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdlib>
#include <map>

#include "common/text/tokenizer.h"
#include "tests/common/model/serving_fixture.h"

namespace sinklora {
namespace {

// The beginning of "Pride and Prejudice" (Jane Austen, 1813).
constexpr char kText[] =
    "It is a truth universally acknowledged, that a single man in possession "
    "of a good fortune, must be in want of a wife.\n\nHowever little known the "
    "feelings or views of such a man may be on his first entering a "
    "neighbourhood, this truth is so well fixed in the minds of the "
    "surrounding families, that he is considered as the rightful property of "
    "some one or other of their daughters.\n\n\"My dear Mr. Bennet,\" said his "
    "lady to him one day, \"have you heard that Netherfield Park is let at "
    "last?\"\n\nMr. Bennet replied that he had not.\n\n\"But it is,\" returned "
    "she; \"for Mrs. Long has just been here, and she told me all about "
    "it.\"\n\nMr. Bennet made no answer.\n\n\"Do not you want to know who has "
    "taken it?\" cried his wife, impatiently.\n\n\"_You_ want to tell me, and "
    "I "
    "have no objection to hearing it.\"\n\nThis was invitation enough.\n";

class SampleModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* source = std::getenv("SINKLORA_SOURCE_DIR");
    ASSERT_NE(source, nullptr);
    const std::string directory = JoinPath(source, "deploy/sample_model/model");
    ASSERT_OK_AND_ASSIGN(files_, ModelFiles::Open(directory));
    ASSERT_OK_AND_ASSIGN(tokenizer_, Tokenizer::LoadFromDirectory(directory));
    ASSERT_OK_AND_ASSIGN(ids_, tokenizer_->Encode(kText));
    if (const auto bos = tokenizer_->bos_id()) ids_.insert(ids_.begin(), *bos);
    ASSERT_GT(ids_.size(), 200u);
    backend_ = OpenTestBackend("cpu");
  }

  std::shared_ptr<ServedModel> Load(WeightType type) {
    auto weights = BaseWeights::Load(backend_.get(), *files_, type);
    EXPECT_OK(weights.status());
    auto model = ServedModel::Create(*weights, nullptr, 0);
    EXPECT_OK(model.status());
    return *model;
  }

  // Perplexity of the text.
  double Perplexity(WeightType type) {
    auto score = Load(type)->Score(ids_, 1, nullptr);
    EXPECT_OK(score.status());
    return std::exp(score->nll_sum / static_cast<double>(score->scored_tokens));
  }

  std::unique_ptr<ModelFiles> files_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<int32_t> ids_;
  std::unique_ptr<kernels::Backend> backend_;
};

TEST_F(SampleModelTest, LowerPrecisionCostsLittlePerplexity) {
  const double f32 = Perplexity(WeightType::kFloat32);
  const std::map<WeightType, double> most = {{WeightType::kBfloat16, 0.003},
                                             {WeightType::kInt8, 0.005},
                                             {WeightType::kInt4, 0.06}};
  RecordProperty("float32", std::to_string(f32));
  for (const auto& [type, share] : most) {
    const double got = Perplexity(type);
    RecordProperty(std::string(NameOf(type)), std::to_string(got));
    EXPECT_NEAR(got, f32, share * f32) << NameOf(type);
  }
}

// Greedy text of a sequence alone and beside others.
TEST_F(SampleModelTest, GreedyTokensDoNotDependOnTheBatch) {
  constexpr int kSteps = 24;
  for (const WeightType type : {WeightType::kFloat32, WeightType::kBfloat16,
                                WeightType::kInt8, WeightType::kInt4}) {
    const auto model = Load(type);
    const auto greedy = [](const Sequence& sequence) {
      const auto logits = sequence.logits();
      EXPECT_OK(logits);
      return static_cast<int32_t>(
          std::max_element(logits->begin(), logits->end()) - logits->begin());
    };
    const auto start = [&](size_t prompt) {
      auto sequence = Sequence::Create(model, FullCache(), 256);
      EXPECT_OK(sequence.status());
      EXPECT_OK((*sequence)->Prefill({ids_.data(), prompt}, true));
      return *std::move(sequence);
    };
    std::vector<std::vector<int32_t>> alone, together(3);
    std::vector<std::unique_ptr<Sequence>> sequences;
    for (size_t i = 0; i < 3; ++i) {
      const auto sequence = start(40 + 31 * i);
      auto& tokens = alone.emplace_back();
      for (int step = 0; step < kSteps; ++step) {
        tokens.push_back(greedy(*sequence));
        ASSERT_OK(sequence->Decode(tokens.back()));
      }
      sequences.push_back(start(40 + 31 * i));
    }
    for (int step = 0; step < kSteps; ++step) {
      for (size_t i = 0; i < 3; ++i) {
        together[i].push_back(greedy(*sequences[i]));
        ASSERT_OK(sequences[i]->Decode(together[i].back()));
      }
    }
    EXPECT_EQ(together, alone) << NameOf(type);
  }
}

}  // namespace
}  // namespace sinklora
