// What a run leaves behind, for every architecture and kind of RoPE scaling:
// the adapter and the model serve with the loss of the run, at the longer
// context.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "common/model/inference_model.h"
#include "common/model/merge_check.h"
#include "common/weights/peft_adapter.h"
#include "tests/common/model/model_fixture.h"

namespace sinklora {
namespace {

std::vector<NamedConfig> Bases() {
  std::vector<NamedConfig> out = SmallArchitectures();
  LlamaConfig dynamic = SmallConfig(true), yarn = SmallConfig(false),
              llama3 = SmallConfig(true);
  dynamic.rope.kind = RopeKind::kDynamic;
  dynamic.max_position_embeddings = 32;
  yarn.rope.kind = RopeKind::kYarn;
  yarn.rope.original_context = 32;
  dynamic.rope_factor = yarn.rope_factor = 2;
  llama3.rope.kind = RopeKind::kLlama3;
  llama3.rope.original_context = 16;
  llama3.rope_factor = 8;
  llama3.max_position_embeddings = 128;
  out.push_back({"Dynamic", dynamic});
  out.push_back({"Yarn", yarn});
  out.push_back({"Llama3", llama3});
  return out;
}

class ArchitectureResultTest : public ::testing::TestWithParam<NamedConfig> {
 protected:
  void SetUp() override {
    base_ = MakeModel(GetParam().config, 5);
    ASSERT_NE(base_.files, nullptr);
    options_ = SmallTrainingOptions();
    options_.context_tokens = 128;  // twice the base's, llama3's own
    probe_ = RandomExample({60}, 48, 9);
    probe_.supervised.assign(60, 1);
  }
  // Trains and writes; returns the loss afterwards.
  absl::StatusOr<double> Train() {
    SL_ASSIGN_OR_RETURN(
        const auto run,
        TrainingRun::Create(backend_.get(), *base_.files, options_));
    for (uint64_t step = 0; step < 3; ++step) {
      const TrainingExample example = RandomExample({40, 30}, 48, step);
      SL_RETURN_IF_ERROR(run->Step({&example, 1}, nullptr).status());
    }
    SL_RETURN_IF_ERROR(
        run->WriteResult("models/base", base_.directory->path(), Result()));
    return run->ValidationLoss({&probe_, 1}, nullptr);
  }
  double ServedLoss(const ModelFiles& files, const PeftAdapter* adapter) {
    auto weights =
        BaseWeights::Load(backend_.get(), files, WeightType::kFloat32);
    EXPECT_TRUE(weights.ok()) << weights.status();
    auto model = ServedModel::Create(*weights, adapter, 0);
    EXPECT_TRUE(model.ok()) << model.status();
    if (!model.ok()) return NAN;
    EXPECT_EQ((*model)->context_tokens(), 128);
    const auto score = (*model)->Score(probe_.token_ids, 1, nullptr);
    EXPECT_TRUE(score.ok()) << score.status();
    return score.ok() ? score->nll_sum / 59 : NAN;
  }
  std::string Result() const {
    return JoinPath(base_.directory->path(), "result");
  }

  std::unique_ptr<kernels::Backend> backend_ = OpenTestBackend("cpu");
  ModelOnDisk base_;
  TrainingOptions options_;
  TrainingExample probe_;
};

TEST_P(ArchitectureResultTest, AdapterServesWithTheLossOfTheRun) {
  ASSERT_OK_AND_ASSIGN(const double loss, Train());
  ASSERT_OK_AND_ASSIGN(const PeftAdapter adapter,
                       ReadPeftAdapter(Result(), base_.files->config()));
  const double served = ServedLoss(*base_.files, &adapter);
  EXPECT_TRUE(std::abs(served - loss) <= 1e-6 * loss) << served << " " << loss;
}

TEST_P(ArchitectureResultTest, FullModelServesWithTheLossOfTheRun) {
  options_.full_parameter = true;
  ASSERT_OK_AND_ASSIGN(const double loss, Train());
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(Result()));
  EXPECT_EQ(files->config().rope.kind, GetParam().config.rope.kind);
  EXPECT_EQ(files->config().model_type, GetParam().config.model_type);
  const double served = ServedLoss(*files, nullptr);
  EXPECT_TRUE(std::abs(served - loss) <= 2e-2 * loss)  // stored as bf16
      << served << " " << loss;
}

// The check of a merge runs layer by layer what serving runs as a whole. With
// DoRA the rows of a matrix are rescaled and its bias is not.
TEST_P(ArchitectureResultTest, MergedModelIsTheAdaptersModel) {
  ASSERT_OK(Train().status());
  ASSERT_OK_AND_ASSIGN(PeftAdapter adapter,
                       ReadPeftAdapter(Result(), base_.files->config()));
  const std::string merged = JoinPath(base_.directory->path(), "merged");
  for (const bool dora : {false, true}) {
    SCOPED_TRACE(dora ? "DoRA" : "LoRA");
    adapter.use_dora = dora;
    for (const auto& [module, b] : adapter.lora_b) {
      if (!dora) break;
      const std::vector<float> magnitude(static_cast<size_t>(b.shape[0]), 1.0f);
      adapter.lora_magnitude[module] =
          HostTensor::FromF32({b.shape[0]}, magnitude);
    }
    ASSERT_OK_AND_ASSIGN(const MergeCheck check,
                         MergeAndCheck(backend_.get(), base_.directory->path(),
                                       adapter, merged));
    EXPECT_GT(check.max_relative_layer_difference, 0);
    ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(merged));
    const double with_adapter = ServedLoss(*base_.files, &adapter);
    const double alone = ServedLoss(*files, nullptr);
    EXPECT_TRUE(std::abs(alone - with_adapter) <= 2e-2 * with_adapter)
        << alone << " " << with_adapter;
    ASSERT_OK(RemoveAll(merged));
  }
}

// An adapter that was tuned with a factor that its base does not allow is
// another base's.
TEST_P(ArchitectureResultTest, AnotherFactorThanTheBaseAllowsIsRefused) {
  ASSERT_OK(Train().status());
  LlamaConfig other = base_.files->config();
  ASSERT_OK(ReadPeftAdapter(Result(), other).status());
  other.rope.kind = RopeKind::kLlama3;
  other.rope_factor = 32;
  EXPECT_THAT(
      ReadPeftAdapter(Result(), other).status(),
      testing::StatusIs(absl::StatusCode::kInvalidArgument,
                        ::testing::HasSubstr("must be 32: llama3 scaling")));
}

// Predicted bytes count the tensors that other architectures lack.
TEST_P(ArchitectureResultTest, PlanPredictsThePeak) {
  for (const bool full : {false, true}) {
    options_.full_parameter = full;
    ASSERT_OK_AND_ASSIGN(const TrainingPlan plan,
                         PlanTraining(base_.files->config(), options_, 70));
    const auto backend = OpenTestBackend("cpu");
    ASSERT_OK_AND_ASSIGN(
        const auto run,
        TrainingRun::Create(backend.get(), *base_.files, options_));
    const TrainingExample example = RandomExample({70}, 48, 1);
    ASSERT_OK(run->Step({&example, 1}, nullptr));
    const auto measured = static_cast<double>(backend->peak_bytes());
    EXPECT_TRUE(std::abs(static_cast<double>(plan.peak_bytes) - measured) <=
                0.1 * measured)
        << "planned " << plan.peak_bytes << ", measured " << measured;
    EXPECT_EQ(plan.trainable_parameters, run->trainable_parameters());
    if (full) {
      EXPECT_EQ(plan.trainable_parameters,
                base_.files->config().parameter_count());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ArchitectureResultTest,
                         ::testing::ValuesIn(Bases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace sinklora
