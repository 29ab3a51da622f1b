// The embedding's gradient is that of a step's tokens: only their rows are
// zeroed, counted and moved, with the bits of an update of all rows.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/common/model/training_state.h"

namespace sinklora {
namespace {

using internal::Trainable;
using internal::TrainingRunImpl;
using kernels::DType;
using kernels::TensorView;

constexpr const char* kEmbedding = "model.embed_tokens.weight";

// Other tokens every step: [4 * step, 4 * step + 12) and some again.
std::vector<TrainingExample> ExamplesOf(int64_t step) {
  std::vector<TrainingExample> out;
  for (uint64_t i = 0; i < 2; ++i) {
    TrainingExample e = RandomExample({20, 11}, 12, 7 * step + i);
    for (int32_t& id : e.token_ids) {
      id = static_cast<int32_t>((id + 4 * step) % 48);
    }
    out.push_back(std::move(e));
  }
  return out;
}

// Every row updated by every step.
class DenseUpdate {
 public:
  DenseUpdate(kernels::Backend* backend, const TrainingRunImpl& run,
              const OptimizerOptions& options)
      : backend_(backend), options_(options), state_(StateOf(backend, run)) {}

  // The norm of gradients and the state after a step with them.
  double Step(const TrainingRunImpl& run, int64_t step, double learning_rate) {
    State gradients = Gradients(backend_, run);
    double sum = 0;
    for (const Trainable& t : run.trainables().tensors()) {
      double squares = 0;
      EXPECT_TRUE(backend_
                      ->SumSquares({.x = Flat(gradients[t.spec.name]),
                                    .result = &squares})
                      .ok());
      sum += squares;
    }
    const double norm = std::sqrt(sum);
    for (const Trainable& t : run.trainables().tensors()) {
      const std::string& name = t.spec.name;
      kernels::AdamWParams p;
      p.param = Flat(state_[name]);
      p.grad = Flat(gradients[name]);
      p.m = Flat(state_[name + " m"]);
      p.v = Flat(state_[name + " v"]);
      p.step = step;
      p.learning_rate = static_cast<float>(learning_rate);
      p.beta1 = static_cast<float>(options_.beta1);
      p.beta2 = static_cast<float>(options_.beta2);
      p.eps = static_cast<float>(options_.eps);
      p.weight_decay = t.spec.weight_decay
                           ? static_cast<float>(options_.weight_decay)
                           : 0.0f;
      p.grad_scale =
          static_cast<float>(std::min(1.0, options_.clip_norm / (norm + 1e-6)));
      EXPECT_TRUE(backend_->AdamW(p).ok());
    }
    return norm;
  }
  const State& state() const { return state_; }

 private:
  static TensorView Flat(std::vector<float>& values) {
    return TensorView(values.data(), DType::kF32,
                      {static_cast<int64_t>(values.size())});
  }

  kernels::Backend* const backend_;
  const OptimizerOptions options_;
  State state_;
};

class TokenGradientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.optimizer.clip_norm = 0.5;
    options_.optimizer.weight_decay = 0.1;
    options_.optimizer.learning_rate = 1e-2;
    options_.micro_batch_examples = 1;
    options_.accumulation_steps = 2;
  }
  std::unique_ptr<TrainingRunImpl> NewRun() {
    auto run = TrainingRunImpl::Create(backend_.get(), *model_.files, options_);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? std::move(*run) : nullptr;
  }
  static const Trainable& Embedding(const TrainingRunImpl& run) {
    return *run.trainables().Find(kEmbedding);
  }

  std::unique_ptr<kernels::Backend> backend_ = OpenTestBackend("cpu");
  ModelOnDisk model_ = MakeModel(SmallConfig(false), 1);
  TrainingOptions options_ = SmallTrainingOptions();
};

TEST_F(TokenGradientTest, StepsHaveTheBitsOfUpdatesOfAllRows) {
  for (const bool full_parameter : {false, true}) {
    options_.full_parameter = full_parameter;
    const auto run = NewRun();
    DenseUpdate dense(backend_.get(), *run, options_.optimizer);
    std::set<int32_t> seen;
    for (int64_t step = 0; step < 7; ++step) {
      const auto examples = ExamplesOf(step);
      ASSERT_OK(run->ComputeGradients(examples, nullptr));
      std::set<int32_t> tokens;
      for (const TrainingExample& e : examples) {
        tokens.insert(e.token_ids.begin(), e.token_ids.end());
      }
      seen.insert(tokens.begin(), tokens.end());
      // Nothing of an earlier step is left.
      for (const int32_t row : internal::NonzeroRows(
               Values(backend_.get(), Embedding(*run).grad), 32)) {
        EXPECT_TRUE(tokens.contains(row)) << row;
      }
      const double rate =
          LearningRate(options_.optimizer, step, options_.steps);
      const double norm = dense.Step(*run, step + 1, rate);
      ASSERT_OK_AND_ASSIGN(const StepMetrics metrics,
                           run->Step(examples, nullptr));
      EXPECT_EQ(metrics.gradient_norm, norm);
      EXPECT_EQ(StateOf(backend_.get(), *run), dense.state()) << step;
      // And it is by rows.
      const auto rows = Embedding(*run).moment_rows.rows();
      EXPECT_EQ(std::vector<int32_t>(rows.begin(), rows.end()),
                std::vector<int32_t>(seen.begin(), seen.end()));
    }
    EXPECT_LT(seen.size(), 48u);
  }
}

// Which rows have moments is not in a checkpoint, but follows from them.
TEST_F(TokenGradientTest, ResumedRunHasTheBitsOfOneThatNeverStopped) {
  ASSERT_OK_AND_ASSIGN(const auto directory, TempDir::Create());
  const auto straight = NewRun();
  const auto resumed = NewRun();
  // Rows of its own, which loading forgets.
  ASSERT_OK(resumed->Step(ExamplesOf(9), nullptr));
  for (int64_t step = 0; step < 6; ++step) {
    if (step == 3) {
      ASSERT_OK(straight->SaveCheckpoint(directory->path()));
      ASSERT_OK(resumed->LoadCheckpoint(directory->path()));
      const auto rows = Embedding(*resumed).moment_rows.rows();
      EXPECT_EQ(std::vector<int32_t>(rows.begin(), rows.end()),
                internal::NonzeroRows(
                    Values(backend_.get(), Embedding(*straight).m), 32));
    }
    ASSERT_OK(straight->Step(ExamplesOf(step), nullptr));
    if (step < 3) continue;
    ASSERT_OK(resumed->Step(ExamplesOf(step), nullptr));
  }
  EXPECT_EQ(StateOf(backend_.get(), *resumed),
            StateOf(backend_.get(), *straight));
}

TEST_F(TokenGradientTest, EmbeddingThatIsTheHeadHasAGradientEverywhere) {
  model_ = MakeModel(SmallConfig(true), 1);
  EXPECT_TRUE(Embedding(*NewRun()).gradient_rows.empty());
}

}  // namespace
}  // namespace sinklora
