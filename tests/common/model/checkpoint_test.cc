// Checkpoints, resuming, and the results a run writes.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "common/model/inference_model.h"
#include "common/weights/peft_adapter.h"
#include "tests/common/model/training_state.h"

namespace sinklora {
namespace {

using internal::TrainingRunImpl;
using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(directory_, TempDir::Create());
    options_.optimizer.schedule = LrScheduleKind::kCosine;
  }
  std::string Path(const std::string& name) const {
    return JoinPath(directory_->path(), name);
  }
  std::unique_ptr<TrainingRunImpl> NewRun(const TrainingOptions& options) {
    auto run = TrainingRunImpl::Create(backend_.get(), *model_.files, options);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? std::move(*run) : nullptr;
  }
  void Steps(TrainingRunImpl* run, int64_t from, int64_t to) {
    for (int64_t step = from; step < to; ++step) {
      std::vector<TrainingExample> chosen;
      for (const int64_t i : ExamplesOfStep(5, 3, 1, step)) {
        chosen.push_back(examples_[i]);
      }
      ASSERT_OK(run->Step(chosen, nullptr));
    }
  }

  std::unique_ptr<TempDir> directory_;
  std::unique_ptr<kernels::Backend> backend_ = OpenTestBackend("cpu");
  ModelOnDisk model_ = MakeModel(SmallConfig(true), 1);
  TrainingOptions options_ = SmallTrainingOptions();
  const std::vector<TrainingExample> examples_ = {
      RandomExample({30, 10}, 48, 1), RandomExample({25}, 48, 3),
      RandomExample({9, 9, 9}, 48, 5)};
};

TEST_F(CheckpointTest, ResumedRunHasTheBitsOfOneThatNeverStopped) {
  for (const bool bf16 : {false, true}) {
    for (const bool full_parameter : {false, true}) {
      options_.full_parameter = full_parameter;
      options_.matrix_dtype =
          bf16 ? kernels::DType::kBF16 : kernels::DType::kF32;
      const std::string path =
          Path("at_2_" + std::to_string(bf16) + std::to_string(full_parameter));
      const auto straight = NewRun(options_);
      Steps(straight.get(), 0, 2);
      ASSERT_OK(straight->SaveCheckpoint(path));
      Steps(straight.get(), 2, 5);

      const auto resumed = NewRun(options_);
      ASSERT_OK(resumed->LoadCheckpoint(path));
      EXPECT_EQ(resumed->step(), 2);
      Steps(resumed.get(), 2, 5);
      EXPECT_EQ(StateOf(backend_.get(), *resumed),
                StateOf(backend_.get(), *straight));
      // The files too: equal states give equal bytes.
      ASSERT_OK(straight->SaveCheckpoint(path + "a"));
      ASSERT_OK(resumed->SaveCheckpoint(path + "b"));
      for (const char* file : {"state.safetensors", "manifest.json"}) {
        ASSERT_OK_AND_ASSIGN(const auto a,
                             ReadFile(JoinPath(path + "a", file)));
        ASSERT_OK_AND_ASSIGN(const auto b,
                             ReadFile(JoinPath(path + "b", file)));
        EXPECT_EQ(a, b) << file;
      }
    }
  }
}

TEST_F(CheckpointTest, OtherOptionsAreRefusedButMoreStepsAreNot) {
  ASSERT_OK(NewRun(options_)->SaveCheckpoint(Path("c")));
  TrainingOptions other = options_;
  other.steps = 99;
  EXPECT_OK(NewRun(other)->LoadCheckpoint(Path("c")));
  other.optimizer.learning_rate *= 2;
  EXPECT_THAT(NewRun(other)->LoadCheckpoint(Path("c")),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("manifest.json")));
  other = options_;
  other.attention.pattern = PatternKind::kS2;
  EXPECT_THAT(NewRun(other)->LoadCheckpoint(Path("c")),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(CheckpointTest, DamageIsFoundAndChangesNothing) {
  const auto run = NewRun(options_);
  Steps(run.get(), 0, 1);
  const State before = StateOf(backend_.get(), *run);
  ASSERT_OK(run->SaveCheckpoint(Path("c")));
  const std::string state_path = JoinPath(Path("c"), "state.safetensors");
  const std::string manifest_path = JoinPath(Path("c"), "manifest.json");
  ASSERT_OK_AND_ASSIGN(const std::string state, ReadFile(state_path));
  ASSERT_OK_AND_ASSIGN(const std::string manifest, ReadFile(manifest_path));
  const auto expect_damage = [&](const char* file) {
    EXPECT_THAT(run->LoadCheckpoint(Path("c")),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(file)));
    EXPECT_EQ(StateOf(backend_.get(), *run), before);
    EXPECT_EQ(run->step(), 1);
  };
  std::string flipped = state;
  flipped[flipped.size() - 5] ^= 1;
  ASSERT_OK(WriteFileAtomic(state_path, flipped));
  expect_damage("state.safetensors");
  ASSERT_OK(WriteFileAtomic(state_path, state.substr(0, state.size() - 1)));
  expect_damage("state.safetensors");
  ASSERT_OK(WriteFileAtomic(state_path, state));
  ASSERT_OK(WriteFileAtomic(manifest_path, manifest.substr(0, 40)));
  expect_damage("manifest.json");
  ASSERT_OK(WriteFileAtomic(manifest_path, "[]"));
  expect_damage("manifest.json");
  ASSERT_OK(RemoveAll(manifest_path));
  EXPECT_THAT(
      run->LoadCheckpoint(Path("c")),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("manifest.json")));
  ASSERT_OK(WriteFileAtomic(manifest_path, manifest));
  EXPECT_OK(run->LoadCheckpoint(Path("c")));
}

// Loss of what a written result serves, in nats a scored token.
double ServedLoss(kernels::Backend* backend, const ModelFiles& files,
                  const PeftAdapter* adapter, const TrainingExample& example) {
  auto weights = BaseWeights::Load(backend, files, WeightType::kFloat32);
  EXPECT_TRUE(weights.ok()) << weights.status();
  auto model = ServedModel::Create(*weights, adapter, 0);
  EXPECT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->context_tokens(), 128);
  EXPECT_DOUBLE_EQ((*model)->rope_factor(), 2.0);
  auto score = (*model)->Score(example.token_ids, 1, nullptr);
  EXPECT_TRUE(score.ok()) << score.status();
  return score->nll_sum / static_cast<double>(score->scored_tokens);
}

TEST_F(CheckpointTest, AdapterServesWithTheLossOfTheRun) {
  options_.context_tokens = 128;
  const auto run = NewRun(options_);
  Steps(run.get(), 0, 3);
  TrainingExample probe = RandomExample({60}, 48, 9);
  probe.supervised.assign(60, 1);
  ASSERT_OK_AND_ASSIGN(const double loss,
                       run->ValidationLoss({{probe}}, nullptr));
  ASSERT_OK(run->WriteResult("models/base", model_.directory->path(),
                             Path("adapter")));
  ASSERT_OK_AND_ASSIGN(
      const PeftAdapter adapter,
      ReadPeftAdapter(Path("adapter"), model_.files->config()));
  EXPECT_EQ(adapter.context_tokens, 128);
  EXPECT_DOUBLE_EQ(adapter.rope_factor, 2.0);
  EXPECT_EQ(adapter.rank, 3);
  EXPECT_EQ(adapter.lora_a.size(), 8u);
  // Embedding, norms, and the head that is tied to the embedding.
  EXPECT_EQ(adapter.full.size(), 1u + 2 * 2 + 1 + 1);
  EXPECT_TRUE(adapter.full.at("lm_head.weight") ==
              adapter.full.at("model.embed_tokens.weight"));
  const double served =
      ServedLoss(backend_.get(), *model_.files, &adapter, probe);
  EXPECT_TRUE(std::abs(served - loss) <= 1e-6 * loss) << served << " " << loss;
}

TEST_F(CheckpointTest, FullModelServesWithTheLossOfTheRun) {
  options_.context_tokens = 128;
  options_.full_parameter = true;
  ASSERT_OK(WriteFileAtomic(
      JoinPath(model_.directory->path(), "tokenizer.json"), "{}"));
  const auto run = NewRun(options_);
  Steps(run.get(), 0, 2);
  TrainingExample probe = RandomExample({60}, 48, 9);
  probe.supervised.assign(60, 1);
  ASSERT_OK_AND_ASSIGN(const double loss,
                       run->ValidationLoss({{probe}}, nullptr));
  ASSERT_OK(
      run->WriteResult("models/base", model_.directory->path(), Path("model")));
  EXPECT_TRUE(FileExists(JoinPath(Path("model"), "tokenizer.json")));
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(Path("model")));
  EXPECT_DOUBLE_EQ(files->config().rope_factor, 2.0);
  const double served = ServedLoss(backend_.get(), *files, nullptr, probe);
  EXPECT_TRUE(std::abs(served - loss) <= 2e-2 * loss)  // stored as bf16
      << served << " " << loss;
}

}  // namespace
}  // namespace sinklora
