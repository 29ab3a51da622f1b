// Loss and every gradient of a 2-layer GQA model against the double-precision
// oracle, for every attention pattern and every architecture.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <tuple>

#include "common/model/internal/training_run_impl.h"
#include "tests/common/model/training_state.h"

namespace sinklora {
namespace {

using internal::Trainable;
using internal::TrainingRunImpl;

struct Mode {
  const char* name;
  bool full_parameter;
  bool tied;
  bool frozen;  // embedding and norms
  std::vector<std::string> targets;
};

const Mode kModes[] = {
    {"LoraTied", false, true, false, {"q_proj", "k_proj", "v_proj", "o_proj"}},
    {"LoraUntied",
     false,
     false,
     false,
     {"q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}},
    {"LoraFrozen", false, true, true, {"q_proj", "k_proj", "o_proj"}},
    {"FullTied", true, true, false, {}},
    {"FullUntied", true, false, false, {}},
};

const std::pair<const char*, PatternKind> kPatterns[] = {
    {"Full", PatternKind::kFull},
    {"Short", PatternKind::kShort},
    {"S2", PatternKind::kS2},
    {"S2Sinks", PatternKind::kS2Sinks},
    {"SegmentReassemble", PatternKind::kSegmentReassemble},
    {"Sf", PatternKind::kSf},
};

using Param =
    std::tuple<std::string, std::pair<const char*, PatternKind>, Mode>;
class GradientTest : public ::testing::TestWithParam<Param> {};

// The run's own trainable values, put into the oracle.
void CopyMasters(kernels::Backend* backend, const TrainingRunImpl& run,
                 testing::ReferenceModel* model) {
  for (const Trainable& t : run.trainables().tensors()) {
    ASSERT_OK_AND_ASSIGN(const std::vector<float> values,
                         internal::Download(backend, t.master.view()));
    const bool vector = t.spec.shape.size() == 1;
    model->tensors[t.spec.name] = {vector ? 1 : t.spec.shape[0],
                                   t.spec.shape.back(),
                                   {values.begin(), values.end()}};
  }
}

TrainingOptions OptionsOf(const Mode& mode, PatternKind pattern) {
  TrainingOptions options = SmallTrainingOptions();
  options.full_parameter = mode.full_parameter;
  options.context_tokens = 96;  // RoPE factor 1.5
  options.attention.pattern = pattern;
  options.attention.full_below_tokens = 5;
  options.micro_batch_examples = 2;
  options.accumulation_steps = 2;
  if (!mode.full_parameter) options.lora.target_modules = mode.targets;
  options.lora.freeze_embedding_and_norms = mode.frozen;
  return options;
}

void ExpectOraclesGradients(const std::string& backend_name,
                            const LlamaConfig& config,
                            const TrainingOptions& options) {
  const auto backend = OpenTestBackend(backend_name.c_str());
  ModelOnDisk model = MakeModel(config, 21);
  ASSERT_NE(model.files, nullptr);
  ASSERT_OK_AND_ASSIGN(
      const auto run,
      TrainingRunImpl::Create(backend.get(), *model.files, options));
  RandomizeLoraB(backend.get(), *run);
  CopyMasters(backend.get(), *run, &model.reference);
  model.reference.rope_factor = 1.5;
  model.reference.lora_scale = 2.0;

  const std::vector<TrainingExample> examples = {
      RandomExample({17, 4, 9, 1}, 48, 31), RandomExample({53}, 48, 32),
      RandomExample({2, 30}, 48, 33), RandomExample({7, 8, 20}, 48, 34)};
  const auto batch = ToReference(examples, options.attention, 4);
  const auto want = testing::RunReference(
      model.reference, batch, 1.0 / static_cast<double>(LabelCount(batch)));

  ASSERT_OK_AND_ASSIGN(const double loss,
                       run->ComputeGradients(examples, nullptr));
  EXPECT_TRUE(std::abs(loss - want.loss) <= 1e-5 * want.loss)
      << loss << " vs " << want.loss;
  for (const Trainable& t : run->trainables().tensors()) {
    ASSERT_OK_AND_ASSIGN(const std::vector<float> got,
                         internal::Download(backend.get(), t.grad.view()));
    const std::vector<double>& expected = want.gradients.at(t.spec.name);
    double largest = 0;
    for (const double g : expected) largest = std::max(largest, std::abs(g));
    EXPECT_GT(largest, 1e-6) << t.spec.name << " has no gradient to test";
    EXPECT_TRUE(testing::AllClose(got, expected, 1e-5 * largest))
        << t.spec.name;
  }
}

TEST_P(GradientTest, MatchesOracle) {
  const auto& [backend_name, pattern, mode] = GetParam();
  ExpectOraclesGradients(backend_name, SmallConfig(mode.tied),
                         OptionsOf(mode, pattern.second));
}

INSTANTIATE_TEST_SUITE_P(AllPatterns, GradientTest,
                         ::testing::Combine(::testing::Values("cpu",
                                                              "reference"),
                                            ::testing::ValuesIn(kPatterns),
                                            ::testing::ValuesIn(kModes)),
                         [](const ::testing::TestParamInfo<Param>& info) {
                           return std::get<0>(info.param) +
                                  std::get<1>(info.param).first +
                                  std::get<2>(info.param).name;
                         });

using ArchitectureParam =
    std::tuple<std::string, NamedConfig, std::pair<const char*, PatternKind>>;
class ArchitectureGradientTest
    : public ::testing::TestWithParam<ArchitectureParam> {};

// Biases are trained with every parameter only, q/k norms with the other norms.
TEST_P(ArchitectureGradientTest, MatchesOracle) {
  const auto& [backend_name, architecture, pattern] = GetParam();
  for (const Mode& mode : kModes) {
    if (mode.tied != architecture.config.tie_word_embeddings) continue;
    for (const bool keep : {false, true}) {
      TrainingOptions options = OptionsOf(mode, pattern.second);
      options.keep_activations = keep;
      ExpectOraclesGradients(backend_name, architecture.config, options);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ArchitectureGradientTest,
    ::testing::Combine(::testing::Values("cpu", "reference"),
                       ::testing::ValuesIn(SmallArchitectures()),
                       ::testing::Values(kPatterns[0], kPatterns[5])),
    [](const ::testing::TestParamInfo<ArchitectureParam>& info) {
      return std::get<0>(info.param) + std::get<1>(info.param).name +
             std::get<2>(info.param).first;
    });

TEST(TrainedTensorsTest, NormsOfHeadsAreNormsAndBiasesAreNot) {
  for (const NamedConfig& architecture : SmallArchitectures()) {
    std::set<std::string> lora, all;
    TrainingOptions options = SmallTrainingOptions();
    for (const auto& spec :
         internal::TrainableSpecs(architecture.config, options)) {
      lora.insert(spec.name);
    }
    options.full_parameter = true;
    for (const auto& spec :
         internal::TrainableSpecs(architecture.config, options)) {
      all.insert(spec.name);
      const bool matrix = spec.shape.size() == 2;
      EXPECT_EQ(spec.weight_decay, matrix && !internal::IsEmbedding(spec.name));
    }
    for (const auto& [name, shape] : LlamaTensors(architecture.config)) {
      EXPECT_TRUE(all.contains(name)) << name;
      const bool norm = name.find("norm") != std::string::npos;
      EXPECT_EQ(lora.contains(name), norm || internal::IsEmbedding(name))
          << name;
    }
  }
}

}  // namespace
}  // namespace sinklora
