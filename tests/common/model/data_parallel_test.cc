// Training on several GPUs, emulated ones: against one, from one to several and
// back, and what a failing rank leaves behind. The same on real ones where the
// machine has two.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "common/model/internal/data_parallel_run.h"
#include "tests/common/model/training_state.h"
#include "tests/testing/cuda_emulation/emulated_communicator.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"

namespace sinklora {
namespace {

using internal::DataParallelRun;
using internal::TrainingRunImpl;
using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kVocab = 48;

class DataParallelTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new ModelOnDisk(MakeModel(SmallConfig(false), 1));
  }
  static void TearDownTestSuite() { delete model_; }

  DataParallelTest() {
    options_ = SmallTrainingOptions();
    options_.accumulation_steps = 3;  // so that rank 0 has two of them
    for (int i = 0; i < 2; ++i) {
      std::unique_ptr<kernels::Backend> backend;
      const kernels::Status status =
          emulation::OpenEmulated(&backend, nullptr, i);
      EXPECT_TRUE(status.ok()) << status.message();
      backends_.push_back(backend.get());
      owned_.push_back(std::move(backend));
    }
  }

  // Documents of different tokens, so that ranks touch different rows.
  static std::vector<TrainingExample> Examples(uint64_t seed) {
    return {RandomExample({7, 3}, kVocab / 3, seed),
            RandomExample({13}, kVocab, seed + 1),
            RandomExample({5, 4}, kVocab / 2, seed + 2)};
  }

  std::unique_ptr<DataParallelRun> MakeRun() {
    auto run = DataParallelRun::Create(backends_, *model_->files, options_);
    EXPECT_OK(run);
    return run.ok() ? std::move(*run) : nullptr;
  }
  std::unique_ptr<TrainingRunImpl> MakeOne() {
    auto run = TrainingRunImpl::Create(backends_[0], *model_->files, options_);
    EXPECT_OK(run);
    return run.ok() ? std::move(*run) : nullptr;
  }
  // Of all ranks, which must be equal to the bit.
  State StateOfAll(const DataParallelRun& run) {
    State first = StateOf(backends_[0], run.run(0));
    EXPECT_TRUE(StateOf(backends_[1], run.run(1)) == first);
    return first;
  }

  static ModelOnDisk* model_;
  TrainingOptions options_;
  std::vector<std::unique_ptr<kernels::Backend>> owned_;
  std::vector<kernels::Backend*> backends_;
};
ModelOnDisk* DataParallelTest::model_ = nullptr;

void ExpectClose(const State& got, const State& want, double absolute,
                 double relative) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, values] : want) {
    EXPECT_TRUE(testing::AllClose(got.at(name), values, absolute, relative))
        << name;
  }
}

// A gradient is a sum over three micro-steps. Two devices add it in another
// order, which moves it by a few roundings of its terms; nothing else differs.
TEST_F(DataParallelTest, GradientsAreThoseOfOneDevice) {
  const auto examples = Examples(1);
  const auto one = MakeOne();
  const auto two = MakeRun();
  ASSERT_OK_AND_ASSIGN(const double loss,
                       one->ComputeGradients(examples, nullptr));
  const State want = Gradients(backends_[0], *one);
  ASSERT_OK_AND_ASSIGN(const StepMetrics metrics, two->Step(examples, nullptr));
  const State got = Gradients(backends_[0], two->run(0));
  EXPECT_TRUE(Gradients(backends_[1], two->run(1)) == got);
  // Losses are added in double.
  EXPECT_NEAR(metrics.loss, loss, 1e-12 * loss);
  double largest = 0;
  for (const auto& [name, values] : want) {
    for (const float x : values) {
      largest = std::max(largest, std::abs(static_cast<double>(x)));
    }
  }
  // 3 terms, each at most a few times the largest sum: 4 roundings of 2^-24.
  ExpectClose(got, want, 16 * largest * std::ldexp(1.0, -24), 1e-5);
  ASSERT_OK_AND_ASSIGN(const double norm, one->GradientNorm());
  EXPECT_NEAR(metrics.gradient_norm, norm, 1e-6 * norm);
  int64_t tokens = 0;
  for (const auto& e : examples) {
    tokens += static_cast<int64_t>(e.token_ids.size());
  }
  EXPECT_EQ(metrics.tokens, tokens);
  EXPECT_EQ(metrics.step, 1);
}

// Weights of ranks are equal to the bit after steps that touch other rows, and
// so are those of a second run.
TEST_F(DataParallelTest, RanksAndRunsAgreeToTheBit) {
  for (const bool full_parameter : {false, true}) {
    options_.full_parameter = full_parameter;
    std::vector<double> losses[2];
    State states[2];
    for (int i = 0; i < 2; ++i) {
      const auto run = MakeRun();
      for (uint64_t step = 0; step < (full_parameter ? 1u : 2u); ++step) {
        ASSERT_OK_AND_ASSIGN(const StepMetrics metrics,
                             run->Step(Examples(10 * step + 1), nullptr));
        losses[i].push_back(metrics.loss);
      }
      states[i] = StateOfAll(*run);
    }
    EXPECT_EQ(losses[0], losses[1]);
    EXPECT_TRUE(states[0] == states[1]);
  }
}

TEST_F(DataParallelTest, ValidationIsThatOfOneDeviceToTheBit) {
  const auto examples = Examples(5);
  ASSERT_OK_AND_ASSIGN(const double want,
                       MakeOne()->ValidationLoss(examples, nullptr));
  ASSERT_OK_AND_ASSIGN(const double got,
                       MakeRun()->ValidationLoss(examples, nullptr));
  EXPECT_EQ(got, want);
  EXPECT_THAT(MakeRun()->ValidationLoss({}, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(DataParallelTest, ACheckpointGoesOnOnAnotherNumberOfDevices) {
  ASSERT_OK_AND_ASSIGN(const auto dir, TempDir::Create());
  const auto one = MakeOne();
  ASSERT_OK(one->Step(Examples(1), nullptr));
  ASSERT_OK(one->SaveCheckpoint(JoinPath(dir->path(), "one")));
  const auto two = MakeRun();
  ASSERT_OK(two->LoadCheckpoint(JoinPath(dir->path(), "one")));
  EXPECT_EQ(two->step(), 1);
  EXPECT_TRUE(StateOfAll(*two) == StateOf(backends_[0], *one));
  // And on: the next steps differ by the order of sums alone.
  ASSERT_OK(one->Step(Examples(11), nullptr));
  ASSERT_OK(two->Step(Examples(11), nullptr));
  const State after = StateOfAll(*two);
  ExpectClose(after, StateOf(backends_[0], *one), 2e-5, 1e-4);
  // Back to one device, and to two that never stopped.
  ASSERT_OK(two->SaveCheckpoint(JoinPath(dir->path(), "two")));
  const auto back = MakeOne();
  ASSERT_OK(back->LoadCheckpoint(JoinPath(dir->path(), "two")));
  EXPECT_EQ(back->step(), 2);
  EXPECT_TRUE(StateOf(backends_[0], *back) == after);
  const auto again = MakeRun();
  ASSERT_OK(again->LoadCheckpoint(JoinPath(dir->path(), "two")));
  ASSERT_OK(again->Step(Examples(21), nullptr));
  ASSERT_OK(two->Step(Examples(21), nullptr));
  EXPECT_TRUE(StateOfAll(*again) == StateOfAll(*two));
}

// A loss that is not finite, on rank 1 alone: token 47 is only in its example.
TEST_F(DataParallelTest, AFailingRankLeavesAllAsTheyWere) {
  const int64_t hidden = SmallConfig(false).hidden_size;
  auto examples = Examples(1);
  for (auto& example : examples) {
    for (int32_t& id : example.token_ids) id = std::min(id, 40);
  }
  auto with_47 = examples;
  with_47[1].token_ids[2] = 47;
  const auto run = MakeRun();
  const State before = StateOfAll(*run);
  const std::string embedding(internal::kEmbeddingTensor);
  const auto set_47 = [&](std::span<const float> row) {
    for (int rank = 0; rank < 2; ++rank) {
      SetRow(backends_[rank], run->run(rank), embedding, 47, row);
    }
  };
  set_47(std::vector<float>(static_cast<size_t>(hidden), INFINITY));
  EXPECT_THAT(run->Step(with_47, nullptr),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("loss")));
  EXPECT_EQ(run->step(), 0);
  set_47(std::span(before.at(embedding)).subspan(47 * hidden, hidden));
  EXPECT_TRUE(StateOfAll(*run) == before);
  // A good step is that of a run that never failed.
  ASSERT_OK(run->Step(with_47, nullptr));
  const auto other = MakeRun();
  ASSERT_OK(other->Step(with_47, nullptr));
  EXPECT_TRUE(StateOfAll(*run) == StateOfAll(*other));
}

// The links break in the middle of a sum: an error, no wait without end, the
// weights as they were; the next step makes a group anew.
TEST_F(DataParallelTest, ABrokenLinkLeavesAllAsTheyWere) {
  const auto run = MakeRun();
  const State before = StateOfAll(*run);
  for (const int rank : {0, 1}) {
    emulation::FailExchange(rank, 2);
    EXPECT_THAT(run->Step(Examples(1), nullptr),
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("broken")));
    EXPECT_TRUE(StateOfAll(*run) == before);
    EXPECT_EQ(run->step(), 0);
  }
  ASSERT_OK(run->Step(Examples(1), nullptr));
  const auto other = MakeRun();
  ASSERT_OK(other->Step(Examples(1), nullptr));
  EXPECT_TRUE(StateOfAll(*run) == StateOfAll(*other));
}

TEST_F(DataParallelTest, ABrokenLoadIsMendedByALoadAlone) {
  ASSERT_OK_AND_ASSIGN(const auto dir, TempDir::Create());
  const auto run = MakeRun();
  ASSERT_OK(run->Step(Examples(1), nullptr));
  ASSERT_OK(run->SaveCheckpoint(dir->path()));
  const State saved = StateOfAll(*run);
  const auto other = MakeRun();
  emulation::FailExchange(1, 1);
  EXPECT_THAT(other->LoadCheckpoint(dir->path()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("broken")));
  EXPECT_THAT(other->Step(Examples(1), nullptr),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("load a checkpoint")));
  ASSERT_OK(other->LoadCheckpoint(dir->path()));
  EXPECT_TRUE(StateOfAll(*other) == saved);
}

TEST_F(DataParallelTest, CancelsAndRefusesWithoutATrace) {
  const auto run = MakeRun();
  const State before = StateOfAll(*run);
  Cancellation cancellation;
  cancellation.Cancel();
  EXPECT_THAT(run->Step(Examples(1), &cancellation),
              StatusIs(absl::StatusCode::kCancelled));
  auto bad = Examples(1);
  bad[1].token_ids[0] = kVocab;
  EXPECT_THAT(run->Step(bad, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument));
  bad.pop_back();
  EXPECT_THAT(run->Step(bad, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("examples of a step are 2, must be 3")));
  EXPECT_TRUE(StateOfAll(*run) == before);
}

TEST_F(DataParallelTest, NeedsAMicroStepADevice) {
  options_.accumulation_steps = 1;
  EXPECT_THAT(
      TrainingRun::Create(backends_, *model_->files, options_),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("devices of the run are 2, must be in [1, 1]")));
}

TEST_F(DataParallelTest, RefusesCpusByName) {
  const auto a = OpenTestBackend("cpu");
  const auto b = OpenTestBackend("cpu");
  const std::vector<kernels::Backend*> cpus = {a.get(), b.get()};
  EXPECT_THAT(
      TrainingRun::Create(cpus, *model_->files, options_),
      StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("backend is cpu")));
}

// On the first two GPUs of the machine.
TEST(DataParallelDeviceTest, StepsAsOneGpuDoes) {
  int count = 0;
  const kernels::Status counted = kernels::CountCudaDevices(&count);
  if (!counted.ok() || count < 2) {
    GTEST_SKIP() << "needs 2 GPUs, there are " << count << " "
                 << counted.message();
  }
  const ModelOnDisk model = MakeModel(SmallConfig(false), 1);
  TrainingOptions options = SmallTrainingOptions();
  options.accumulation_steps = 2;
  std::vector<std::unique_ptr<kernels::Backend>> owned;
  std::vector<kernels::Backend*> backends;
  for (const char* name : {"cuda:0", "cuda:1"}) {
    owned.push_back(OpenTestBackend(name));
    backends.push_back(owned.back().get());
  }
  const std::vector<TrainingExample> examples = {
      RandomExample({31, 20}, kVocab, 1), RandomExample({40}, kVocab, 2)};
  State states[2];
  for (State& state : states) {
    ASSERT_OK_AND_ASSIGN(const auto two, DataParallelRun::Create(
                                             backends, *model.files, options));
    for (int i = 0; i < 3; ++i) ASSERT_OK(two->Step(examples, nullptr));
    state = StateOf(backends[0], two->run(0));
    EXPECT_TRUE(StateOf(backends[1], two->run(1)) == state);
  }
  EXPECT_TRUE(states[0] == states[1]);
  ASSERT_OK_AND_ASSIGN(const auto one, TrainingRunImpl::Create(
                                           backends[0], *model.files, options));
  for (int i = 0; i < 3; ++i) ASSERT_OK(one->Step(examples, nullptr));
  ExpectClose(states[0], StateOf(backends[0], *one), 2e-4, 1e-3);
}

}  // namespace
}  // namespace sinklora
