// The oracle itself: its gradients against central finite differences, its
// cached decoding against its own full forward.
//
// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/reference_model/reference_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/common/model/model_fixture.h"
#include "tests/testing/reference_model/reference_sequence.h"

namespace sinklora {
namespace {

using testing::ReferenceBatch;
using testing::ReferenceModel;

void AddLora(const char* module, int64_t rows, int64_t cols, int64_t rank,
             ReferenceModel* model) {
  std::mt19937_64 bits(99);
  std::normal_distribution<double> normal;
  auto& a = model->tensors[std::string(module) + ".lora_A"];
  auto& b = model->tensors[std::string(module) + ".lora_B"];
  a = {rank, cols, {}};
  b = {rows, rank, {}};
  for (auto* m : {&a, &b}) {
    for (int64_t i = 0; i < m->rows * m->cols; ++i) {
      m->values.push_back(0.3 * normal(bits));
    }
  }
  model->lora_scale = 2.0;
}

void ExpectCentralDifferences(const LlamaConfig& config) {
  ReferenceModel model = testing::RandomReferenceModel(config, 3);
  model.rope_factor = 2.0;
  AddLora("model.layers.0.self_attn.q_proj", 32, 32, 3, &model);
  AddLora("model.layers.1.mlp.down_proj", 32, 40, 3, &model);
  AttentionOptions sf;
  const ReferenceBatch batch =
      ToReference({RandomExample({9, 14}, 48, 1), RandomExample({6}, 48, 2)},
                  sf, model.config.num_heads);
  const double scale = 1.0 / static_cast<double>(LabelCount(batch));
  const auto result = testing::RunReference(model, batch, scale);

  std::mt19937_64 bits(5);
  for (auto& [name, matrix] : model.tensors) {
    const std::vector<double>& gradient = result.gradients.at(name);
    for (int trial = 0; trial < 2; ++trial) {
      const size_t i = bits() % matrix.values.size();
      constexpr double kStep = 1e-5;
      const double kept = matrix.values[i];
      matrix.values[i] = kept + kStep;
      const double up = testing::RunReference(model, batch, scale).loss;
      matrix.values[i] = kept - kStep;
      const double down = testing::RunReference(model, batch, scale).loss;
      matrix.values[i] = kept;
      const double numeric = (up - down) / (2 * kStep);
      EXPECT_TRUE(std::abs(numeric - gradient[i]) <=
                  1e-8 + 1e-6 * std::abs(numeric))
          << name << "[" << i << "]: " << numeric << " vs " << gradient[i];
    }
  }
}

TEST(ReferenceModelTest, GradientsEqualCentralDifferences) {
  ExpectCentralDifferences(SmallConfig(true));
  for (const NamedConfig& architecture : SmallArchitectures()) {
    SCOPED_TRACE(architecture.name);
    ExpectCentralDifferences(architecture.config);
  }
}

TEST(ReferenceModelTest, MaskFollowsTheRule) {
  ReferenceBatch batch;
  batch.ids.assign(8, 0);
  batch.documents = {{8, 4}};
  batch.shifted_heads = 1;
  batch.sink_tokens = 1;
  auto mask = testing::ExpandMask(batch, 2);
  const auto row = [&](int h, int i) {
    return std::vector<int>(mask[h].begin() + i * 8,
                            mask[h].begin() + i * 8 + 8);
  };
  EXPECT_EQ(row(0, 3), (std::vector<int>{1, 1, 1, 1, 0, 0, 0, 0}));
  EXPECT_EQ(row(0, 5), (std::vector<int>{1, 0, 0, 0, 1, 1, 0, 0}));
  EXPECT_EQ(row(1, 1), (std::vector<int>{1, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(row(1, 5), (std::vector<int>{1, 0, 1, 1, 1, 1, 0, 0}));
  EXPECT_EQ(row(1, 7), (std::vector<int>{1, 0, 0, 0, 0, 0, 1, 1}));
  mask = testing::ExpandMask(batch, 2, 3);
  EXPECT_EQ(row(0, 2), (std::vector<int>{1, 1, 1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(row(0, 3), (std::vector<int>{0, 1, 1, 1, 0, 0, 0, 0}));
  EXPECT_EQ(row(1, 5), (std::vector<int>{0, 0, 0, 1, 1, 1, 0, 0}));
}

void ExpectTokenByTokenEqualsWhole(const LlamaConfig& config) {
  const ReferenceModel model = testing::RandomReferenceModel(config, 4);
  ReferenceBatch batch;
  batch.ids = RandomTokens(20, 48, 6);
  batch.labels.assign(20, -1);
  batch.documents = {{20, 20}};
  const auto whole = testing::RunReference(model, batch, 0);
  testing::ReferenceSequence sequence(&model, {});
  for (size_t t = 0; t < batch.ids.size(); ++t) {
    const std::vector<double> logits = sequence.Feed(batch.ids[t], true);
    const std::vector<double> wanted(whole.logits.begin() + t * 48,
                                     whole.logits.begin() + (t + 1) * 48);
    EXPECT_TRUE(testing::AllClose(logits, wanted, 1e-10, 1e-10)) << t;
  }
}

TEST(ReferenceModelTest, TokenByTokenEqualsWholeForward) {
  ExpectTokenByTokenEqualsWhole(SmallConfig(false));
  for (const NamedConfig& architecture : SmallArchitectures()) {
    SCOPED_TRACE(architecture.name);
    ExpectTokenByTokenEqualsWhole(architecture.config);
  }
}

}  // namespace
}  // namespace sinklora
