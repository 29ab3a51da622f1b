// Scoring, adapters without merging, RoPE of served models.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/common/model/serving_fixture.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

HostTensor RandomTensor(std::vector<int64_t> shape, double centre,
                        double deviation, uint64_t seed) {
  std::mt19937_64 bits(seed);
  std::normal_distribution<double> normal(centre, deviation);
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    values.push_back(static_cast<float>(normal(bits)));
  }
  return HostTensor::FromF32(std::move(shape), values);
}

// LoRA on q and down of both layers, tuned embedding and final norm. The head
// of a tied base moves with the embedding.
PeftAdapter MakeAdapter(bool tied) {
  PeftAdapter out;
  out.rank = 4;
  out.lora_alpha = 8;
  out.context_tokens = 128;
  out.rope_factor = 2;
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    out.lora_a[prefix + ".self_attn.q_proj"] =
        RandomTensor({4, 32}, 0, 0.2, 10 + layer);
    out.lora_b[prefix + ".self_attn.q_proj"] =
        RandomTensor({32, 4}, 0, 0.2, 20 + layer);
    out.lora_a[prefix + ".mlp.down_proj"] =
        RandomTensor({4, 40}, 0, 0.2, 30 + layer);
    out.lora_b[prefix + ".mlp.down_proj"] =
        RandomTensor({32, 4}, 0, 0.2, 40 + layer);
  }
  out.full["model.embed_tokens.weight"] = RandomTensor({48, 32}, 0, 0.3, 50);
  if (tied) out.full["lm_head.weight"] = out.full["model.embed_tokens.weight"];
  out.full["model.norm.weight"] = RandomTensor({32}, 1, 0.2, 60);
  return out;
}

// What merging would give, in double.
void Merge(const PeftAdapter& adapter, testing::ReferenceModel* model) {
  for (const auto& [module, a] : adapter.lora_a) {
    const std::vector<float> a_values = a.ToFloats().value();
    const std::vector<float> b_values =
        adapter.lora_b.at(module).ToFloats().value();
    testing::ReferenceMatrix& w = model->tensors.at(module + ".weight");
    for (int64_t r = 0; r < w.rows; ++r) {
      for (int64_t c = 0; c < w.cols; ++c) {
        for (int64_t k = 0; k < 4; ++k) {
          w.values[r * w.cols + c] +=
              2.0 * b_values[r * 4 + k] * a_values[k * w.cols + c];
        }
      }
    }
  }
  for (const auto& [name, host] : adapter.full) {
    // A tied model has its embedding for a head.
    if (name == "lm_head.weight") continue;
    const std::vector<float> values = host.ToFloats().value();
    model->tensors.at(name).values.assign(values.begin(), values.end());
  }
  model->rope_factor = adapter.rope_factor;
}

testing::ReferenceResult ReferenceOf(const testing::ReferenceModel& model,
                                     const std::vector<int32_t>& tokens,
                                     int64_t score_from) {
  testing::ReferenceBatch batch;
  const auto n = static_cast<int64_t>(tokens.size());
  batch.ids = tokens;
  batch.labels.assign(tokens.size(), -1);
  for (int64_t i = score_from; i < n; ++i) batch.labels[i - 1] = tokens[i];
  batch.documents = {{n, n}};
  return testing::RunReference(model, batch, 1.0);
}

class AdapterTest : public ::testing::TestWithParam<bool> {};

TEST_P(AdapterTest, EqualsTheMergedModel) {
  Served served = Serve(SmallConfig(/*tied=*/GetParam()), 3);
  const PeftAdapter adapter = MakeAdapter(/*tied=*/GetParam());
  ASSERT_OK_AND_ASSIGN(served.model,
                       ServedModel::Create(served.weights, &adapter, 0));
  EXPECT_EQ(served.model->context_tokens(), 128);
  EXPECT_DOUBLE_EQ(served.model->rope_factor(), 2.0);
  EXPECT_EQ(served.model->extra_bytes(),
            4 * (128 * 8 + 2 * (4 * 32 * 2 + 4 * 40 + 4 * 32) + 48 * 32 + 32));
  Merge(adapter, &served.disk.reference);
  const std::vector<int32_t> tokens = RandomTokens(100, 48, 4);
  const auto want = ReferenceOf(served.disk.reference, tokens, 1);

  ASSERT_OK_AND_ASSIGN(const auto score,
                       served.model->Score(tokens, 1, nullptr));
  EXPECT_TRUE(std::abs(score.nll_sum - want.loss) <= 1e-5 * want.loss)
      << score.nll_sum << " vs " << want.loss;
  const Trace trace = RunSequence(served, FullCache(), tokens, 90, 90);
  for (size_t step = 0; step < trace.logits.size(); ++step) {
    const auto from = want.logits.begin() + (89 + step) * 48;
    EXPECT_TRUE(testing::AllClose(
        trace.logits[step], std::vector<double>(from, from + 48), 2e-4, 2e-4));
  }
}

INSTANTIATE_TEST_SUITE_P(TiedAndNot, AdapterTest, ::testing::Bool());

TEST(ServedModelTest, ScoresGivenTokens) {
  const Served served = Serve(SmallConfig(true), 3);
  const std::vector<int32_t> tokens = RandomTokens(50, 48, 4);
  ASSERT_OK_AND_ASSIGN(const auto all, served.model->Score(tokens, 1, nullptr));
  ASSERT_OK_AND_ASSIGN(const auto tail,
                       served.model->Score(tokens, 30, nullptr));
  EXPECT_EQ(all.scored_tokens, 49);
  EXPECT_EQ(tail.scored_tokens, 20);
  ASSERT_EQ(tail.nll.size(), 20u);
  double sum = 0;
  for (const float x : tail.nll) sum += x;
  EXPECT_TRUE(std::abs(sum - tail.nll_sum) <= 1e-4);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(tail.nll[i], all.nll[29 + i]);
  const auto want = ReferenceOf(served.disk.reference, tokens, 30);
  EXPECT_TRUE(std::abs(tail.nll_sum - want.loss) <= 1e-5 * want.loss);
}

TEST(ServedModelTest, RefusesByName) {
  const Served served = Serve(SmallConfig(true), 3);
  const auto rejects = [&](const std::vector<int32_t>& tokens, int64_t from,
                           const char* text) {
    EXPECT_THAT(served.model->Score(tokens, from, nullptr),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)));
  };
  rejects({1}, 1, "token_ids has 1 tokens");
  rejects(RandomTokens(65, 48, 1), 1, "65 tokens");
  rejects({1, 2}, 0, "score_from is 0");
  rejects({1, 2}, 2, "score_from is 2");
  rejects({1, 48}, 1, "token_ids[1] is 48");
  Cancellation cancellation;
  cancellation.Cancel();
  EXPECT_THAT(served.model->Score(RandomTokens(9, 48, 1), 1, &cancellation),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(ServedModel::Create(served.weights, nullptr, int64_t{1} << 40),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("context_tokens")));
}

TEST(ServedModelTest, ContextDecidesTheRopeFactor) {
  LlamaConfig config = SmallConfig(true);
  config.rope_factor = 2.0;  // context 128
  const Served served = Serve(config, 3);
  EXPECT_EQ(served.model->context_tokens(), 128);
  EXPECT_DOUBLE_EQ(served.model->rope_factor(), 2.0);
  const PeftAdapter adapter = [] {
    PeftAdapter out = MakeAdapter(true);
    out.context_tokens = 256;
    out.rope_factor = 4;
    return out;
  }();
  const auto factor = [&](const PeftAdapter* a, int64_t context) {
    auto model = ServedModel::Create(served.weights, a, context);
    EXPECT_TRUE(model.ok()) << model.status();
    return (*model)->rope_factor();
  };
  EXPECT_DOUBLE_EQ(factor(nullptr, 64), 2.0);
  EXPECT_DOUBLE_EQ(factor(nullptr, 512), 8.0);
  EXPECT_DOUBLE_EQ(factor(&adapter, 0), 4.0);
  EXPECT_DOUBLE_EQ(factor(&adapter, 128), 4.0);  // as it was tuned
  EXPECT_DOUBLE_EQ(factor(&adapter, 512), 8.0);
}

// Unloading waits for the last user.
TEST(ServedModelTest, SequenceKeepsItsWeightsAlive) {
  Served served = Serve(SmallConfig(true), 3);
  const auto sequence = NewSequence(served, FullCache(), 20);
  served.model.reset();
  served.weights.reset();
  EXPECT_OK(sequence->Prefill(RandomTokens(10, 48, 1), true));
  EXPECT_OK(sequence->Decode(3));
}

TEST(ServedModelTest, Bf16StaysCloseAndHalvesTheWeights) {
  const Served f32 = Serve(SmallConfig(false), 3);
  const Served bf16 = Serve(SmallConfig(false), 3, WeightType::kBfloat16);
  EXPECT_LT(bf16.weights->weight_bytes(), 0.52 * f32.weights->weight_bytes());
  const std::vector<int32_t> tokens = RandomTokens(60, 48, 4);
  ASSERT_OK_AND_ASSIGN(const auto a, f32.model->Score(tokens, 1, nullptr));
  ASSERT_OK_AND_ASSIGN(const auto b, bf16.model->Score(tokens, 1, nullptr));
  EXPECT_TRUE(std::abs(a.nll_sum - b.nll_sum) <= 0.03 * a.nll_sum)
      << a.nll_sum << " vs " << b.nll_sum;
}

}  // namespace
}  // namespace sinklora
