// One sequence cut over two or three GPUs, emulated ones: against one device,
// for every pattern that can be cut, and what a failing rank leaves behind. The
// same on real ones where the machine has two.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
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

std::vector<std::unique_ptr<kernels::Backend>> OpenGpus(int count) {
  std::vector<std::unique_ptr<kernels::Backend>> out;
  for (int i = 0; i < count; ++i) {
    const kernels::Status status =
        emulation::OpenEmulated(&out.emplace_back(), nullptr, i);
    EXPECT_TRUE(status.ok()) << status.message();
  }
  return out;
}

TrainingOptions CutOptions(PatternKind pattern) {
  TrainingOptions options = SmallTrainingOptions();
  options.attention.pattern = pattern;
  options.attention.group_size_tokens = 8;
  options.context_parallel = 2;
  return options;
}

class ContextParallelTest : public ::testing::Test {
 protected:
  void SetUp() override { UseModel(SmallConfig(false)); }

  void UseModel(const LlamaConfig& config) { model_ = MakeModel(config, 1); }
  void UseGpus(int count) {
    gpus_ = OpenGpus(count);
    backends_.clear();
    for (const auto& gpu : gpus_) backends_.push_back(gpu.get());
  }

  std::unique_ptr<DataParallelRun> MakeRun() {
    auto run = DataParallelRun::Create(backends_, *model_.files, options_);
    EXPECT_OK(run);
    if (!run.ok()) return nullptr;
    for (int rank = 0; rank < (*run)->size(); ++rank) {
      RandomizeLoraB(backends_[rank], (*run)->run(rank));
    }
    return std::move(*run);
  }
  std::unique_ptr<TrainingRunImpl> MakeOne() {
    TrainingOptions options = options_;
    options.context_parallel = 1;
    auto run = TrainingRunImpl::Create(backends_[0], *model_.files, options);
    EXPECT_OK(run);
    if (!run.ok()) return nullptr;
    RandomizeLoraB(backends_[0], **run);
    return std::move(*run);
  }
  // Of all ranks, which must be equal to the bit.
  State StateOfAll(const DataParallelRun& run) {
    State first = StateOf(backends_[0], run.run(0));
    for (int rank = 1; rank < run.size(); ++rank) {
      EXPECT_TRUE(StateOf(backends_[rank], run.run(rank)) == first);
    }
    return first;
  }

  // A step of ranks has the loss and the gradients of one device, as near as
  // either is to the oracle in GradientTest.
  void ExpectGradientsOfOneDevice(
      const std::vector<TrainingExample>& examples) {
    const auto one = MakeOne();
    const auto many = MakeRun();
    ASSERT_TRUE(one != nullptr && many != nullptr);
    ASSERT_OK_AND_ASSIGN(const double loss,
                         one->ComputeGradients(examples, nullptr));
    ASSERT_OK_AND_ASSIGN(const double norm, one->GradientNorm());
    const State want = Gradients(backends_[0], *one);
    ASSERT_OK_AND_ASSIGN(const StepMetrics metrics,
                         many->Step(examples, nullptr));
    EXPECT_NEAR(metrics.loss, loss, kClose * loss);
    EXPECT_NEAR(metrics.gradient_norm, norm, kClose * norm);
    const State got = Gradients(backends_[0], many->run(0));
    ASSERT_EQ(got.size(), want.size());
    for (const auto& [name, values] : want) {
      float largest = 0;
      for (const float x : values) largest = std::max(largest, std::abs(x));
      EXPECT_GT(largest, 1e-6) << name << " has no gradient to test";
      EXPECT_TRUE(testing::AllClose(got.at(name), values, kClose * largest))
          << name;
    }
    StateOfAll(*many);
  }

  static constexpr double kClose = 1e-5;
  ModelOnDisk model_;
  TrainingOptions options_ = CutOptions(PatternKind::kSf);
  std::vector<std::unique_ptr<kernels::Backend>> gpus_;
  std::vector<kernels::Backend*> backends_;
};

std::vector<TrainingExample> OneOf(int64_t tokens, uint64_t seed = 1) {
  return {RandomExample({tokens}, kVocab, seed)};
}

// Ragged lengths: of a document that ends in a group, packed ones, and one that
// is too short to be cut.
std::vector<TrainingExample> Ragged() {
  return {RandomExample({37}, kVocab, 1), RandomExample({8, 26, 3}, kVocab, 3),
          RandomExample({5}, kVocab, 5)};
}

using PatternParam = std::tuple<int, std::pair<const char*, PatternKind>>;
class ContextParallelPatternTest
    : public ContextParallelTest,
      public ::testing::WithParamInterface<PatternParam> {};

TEST_P(ContextParallelPatternTest, GradientsAreThoseOfOneDevice) {
  const auto& [ranks, pattern] = GetParam();
  UseGpus(ranks);
  options_ = CutOptions(pattern.second);
  options_.context_parallel = ranks;
  options_.accumulation_steps = 3;
  ExpectGradientsOfOneDevice(Ragged());
}

INSTANTIATE_TEST_SUITE_P(
    All, ContextParallelPatternTest,
    ::testing::Combine(
        ::testing::Values(2, 3),
        ::testing::Values(std::pair{"Short", PatternKind::kShort},
                          std::pair{"S2", PatternKind::kS2},
                          std::pair{"S2Sinks", PatternKind::kS2Sinks},
                          std::pair{"Sf", PatternKind::kSf})),
    [](const auto& info) {
      return std::get<1>(info.param).first +
             std::to_string(std::get<0>(info.param)) + "Ranks";
    });

// Two groups of two: each shares its micro-steps, of which the first group has
// two.
TEST_F(ContextParallelTest, GroupsShareTheMicroSteps) {
  UseGpus(4);
  options_.accumulation_steps = 3;
  ExpectGradientsOfOneDevice(Ragged());
}

// Every weight trained, activations kept, groups by ratio, examples together in
// a micro-step.
TEST_F(ContextParallelTest, EveryGradientIsThatOfOneDevice) {
  UseGpus(2);
  options_.full_parameter = true;
  options_.keep_activations = true;
  options_.attention.group_size_tokens = 0;
  options_.attention.sink_tokens = 2;
  options_.micro_batch_examples = 3;
  ExpectGradientsOfOneDevice(Ragged());
}

// Norms of heads, whose backward pass uses the queries' memory; biases; and a
// window, whose part behind a cut goes on.
TEST_F(ContextParallelTest, OtherArchitecturesHaveTheirGradients) {
  UseGpus(2);
  options_.accumulation_steps = 1;
  for (const NamedConfig& architecture : SmallArchitectures()) {
    SCOPED_TRACE(architecture.name);
    UseModel(architecture.config);
    options_.full_parameter = true;
    options_.attention.pattern = architecture.config.sliding_window > 0
                                     ? PatternKind::kS2
                                     : PatternKind::kSf;
    ExpectGradientsOfOneDevice(OneOf(37));
  }
}

// Labels of one part alone: the other has a gradient from attention only.
TEST_F(ContextParallelTest, APartWithoutLabelsTakesPart) {
  UseGpus(2);
  for (const bool first : {true, false}) {
    TrainingExample example = RandomExample({32}, kVocab, 1);
    for (size_t i = 0; i < 32; ++i) {
      example.supervised[i] = (i < 16) == first;
    }
    ExpectGradientsOfOneDevice({example});
  }
}

// What is kept is what is computed again, exchanges included.
TEST_F(ContextParallelTest, KeptAndRecomputedActivationsGiveEqualBits) {
  UseGpus(2);
  State states[2];
  for (const bool keep : {false, true}) {
    options_.keep_activations = keep;
    const auto run = MakeRun();
    ASSERT_OK(run->Step(OneOf(37), nullptr));
    states[keep] = StateOfAll(*run);
  }
  EXPECT_TRUE(states[0] == states[1]);
}

TEST_F(ContextParallelTest, RunsAgreeToTheBit) {
  UseGpus(3);
  options_.context_parallel = 3;
  options_.matrix_dtype = kernels::DType::kBF16;
  State states[2];
  for (State& state : states) {
    const auto run = MakeRun();
    for (uint64_t step = 0; step < 2; ++step) {
      ASSERT_OK(run->Step(OneOf(51, step), nullptr));
    }
    state = StateOfAll(*run);
  }
  EXPECT_TRUE(states[0] == states[1]);
}

TEST_F(ContextParallelTest, ACheckpointGoesOnOnOneDevice) {
  UseGpus(2);
  ASSERT_OK_AND_ASSIGN(const auto dir, TempDir::Create());
  const auto examples = OneOf(37);
  const auto two = MakeRun();
  ASSERT_OK(two->Step(examples, nullptr));
  ASSERT_OK(two->SaveCheckpoint(JoinPath(dir->path(), "two")));
  const auto one = MakeOne();
  ASSERT_OK(one->LoadCheckpoint(JoinPath(dir->path(), "two")));
  EXPECT_EQ(one->step(), 1);
  EXPECT_TRUE(StateOf(backends_[0], *one) == StateOfAll(*two));
  ASSERT_OK(one->Step(examples, nullptr));
  ASSERT_OK(one->SaveCheckpoint(JoinPath(dir->path(), "one")));
  ASSERT_OK(two->LoadCheckpoint(JoinPath(dir->path(), "one")));
  EXPECT_TRUE(StateOf(backends_[0], *one) == StateOfAll(*two));
}

// A link that breaks in an exchange of keys, or of their gradients: an error,
// no wait without end, the weights as they were; the next step makes a group
// anew.
TEST_F(ContextParallelTest, ABrokenLinkLeavesAllAsTheyWere) {
  UseGpus(2);
  const auto examples = OneOf(37);
  const auto run = MakeRun();
  const State before = StateOfAll(*run);
  for (const int rank : {0, 1}) {
    for (const int exchange : {1, 3}) {
      emulation::FailExchange(rank, exchange);
      EXPECT_THAT(run->Step(examples, nullptr),
                  StatusIs(absl::StatusCode::kUnavailable, HasSubstr("broken")))
          << "rank " << rank << " exchange " << exchange;
      EXPECT_TRUE(StateOfAll(*run) == before);
      EXPECT_EQ(run->step(), 0);
    }
  }
  ASSERT_OK(run->Step(examples, nullptr));
  const auto other = MakeRun();
  ASSERT_OK(other->Step(examples, nullptr));
  EXPECT_TRUE(StateOfAll(*run) == StateOfAll(*other));
}

// A loss that is not finite in the second part alone: token 47 is its last.
TEST_F(ContextParallelTest, AFailingRankLeavesAllAsTheyWere) {
  UseGpus(2);
  const int64_t hidden = SmallConfig(false).hidden_size;
  TrainingExample example = RandomExample({37}, kVocab - 8, 1);
  example.token_ids.back() = 47;
  example.token_ids[35] = 47;
  example.supervised[36] = 1;
  const auto run = MakeRun();
  const State before = StateOfAll(*run);
  const std::string embedding(internal::kEmbeddingTensor);
  const auto set_47 = [&](std::span<const float> row) {
    for (int rank = 0; rank < 2; ++rank) {
      SetRow(backends_[rank], run->run(rank), embedding, 47, row);
    }
  };
  set_47(std::vector<float>(static_cast<size_t>(hidden), INFINITY));
  EXPECT_THAT(run->Step({&example, 1}, nullptr),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("loss")));
  EXPECT_EQ(run->step(), 0);
  set_47(std::span(before.at(embedding)).subspan(47 * hidden, hidden));
  EXPECT_TRUE(StateOfAll(*run) == before);
  ASSERT_OK(run->Step({&example, 1}, nullptr));
}

TEST_F(ContextParallelTest, CancelsWithoutATrace) {
  UseGpus(2);
  const auto run = MakeRun();
  const State before = StateOfAll(*run);
  Cancellation cancellation;
  cancellation.Cancel();
  EXPECT_THAT(run->Step(OneOf(37), &cancellation),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(StateOfAll(*run) == before);
  ASSERT_OK(run->Step(OneOf(37), nullptr));
}

TEST_F(ContextParallelTest, ValidationIsThatOfOneDeviceToTheBit) {
  UseGpus(2);
  const std::vector<TrainingExample> examples = Ragged();
  ASSERT_OK_AND_ASSIGN(const double want,
                       MakeOne()->ValidationLoss(examples, nullptr));
  ASSERT_OK_AND_ASSIGN(const double got,
                       MakeRun()->ValidationLoss(examples, nullptr));
  EXPECT_EQ(got, want);
}

// The rank that needs most is planned: here the one in the middle, with half of
// the tokens.
TEST_F(ContextParallelTest, ThePlanIsWhatIsMeasured) {
  UseGpus(3);
  options_.context_parallel = 3;
  options_.lora.freeze_embedding_and_norms = true;
  options_.attention.group_size_tokens = 16;
  ASSERT_OK_AND_ASSIGN(const TrainingPlan plan,
                       PlanTraining(model_.files->config(), options_, 64));
  ASSERT_OK(MakeRun()->Step(OneOf(64), nullptr));
  int64_t measured = 0;
  for (const kernels::Backend* backend : backends_) {
    measured = std::max(measured, backend->peak_bytes());
  }
  EXPECT_NEAR(static_cast<double>(plan.peak_bytes),
              static_cast<double>(measured),
              0.1 * static_cast<double>(measured));
  options_.context_parallel = 1;
  ASSERT_OK_AND_ASSIGN(const TrainingPlan whole,
                       PlanTraining(model_.files->config(), options_, 64));
  EXPECT_EQ(plan.weight_bytes, whole.weight_bytes);
  EXPECT_EQ(plan.validation_bytes, whole.validation_bytes);
  EXPECT_GT(plan.activation_bytes, whole.activation_bytes / 2);
  EXPECT_LT(plan.activation_bytes, whole.activation_bytes * 2 / 3);
}

TEST_F(ContextParallelTest, RefusesByName) {
  UseGpus(3);
  const auto refused = [&](const TrainingOptions& options, size_t devices,
                           const std::string& part) {
    EXPECT_THAT(TrainingRun::Create(std::span(backends_).first(devices),
                                    *model_.files, options),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(part)));
  };
  options_.accumulation_steps = 4;
  refused(options_, 1,
          "context_parallel is 2, must divide the number of devices of the "
          "run, 1");
  refused(options_, 3,
          "context_parallel is 2, must divide the number of devices of the "
          "run, 3");
  EXPECT_THAT(TrainingRun::Create(backends_[0], *model_.files, options_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("context_parallel is 2")));
  TrainingOptions options = options_;
  options.accumulation_steps = 1;
  refused(options, 3,
          "devices of the run are 3, must be in [1, 2] (accumulation_steps x "
          "context_parallel)");
  options = CutOptions(PatternKind::kFull);
  refused(options, 2, "context_parallel is 2, must be 1 with full attention");
  options = CutOptions(PatternKind::kSf);
  options.attention.sink_tokens = 5;
  refused(options, 2,
          "attention.sink_tokens is 5, must be at most 4 (half a group of 8 "
          "tokens) with context_parallel 2");
  options = CutOptions(PatternKind::kSf);
  options.context_parallel = 0;
  refused(options, 2, "context_parallel is 0");
  UseModel(SmallArchitectures()[1].config);
  refused(CutOptions(PatternKind::kSf), 2,
          "must be 1 with sinks and a model of sliding window 6");
}

// On the first two GPUs of the machine.
TEST(ContextParallelDeviceTest, StepsAsOneGpuDoes) {
  int count = 0;
  const kernels::Status counted = kernels::CountCudaDevices(&count);
  if (!counted.ok() || count < 2) {
    GTEST_SKIP() << "needs 2 GPUs, there are " << count << " "
                 << counted.message();
  }
  const ModelOnDisk model = MakeModel(SmallConfig(false), 1);
  TrainingOptions options = CutOptions(PatternKind::kSf);
  std::vector<std::unique_ptr<kernels::Backend>> owned;
  std::vector<kernels::Backend*> backends;
  for (const char* name : {"cuda:0", "cuda:1"}) {
    owned.push_back(OpenTestBackend(name));
    backends.push_back(owned.back().get());
  }
  const auto examples = OneOf(61);
  State states[2];
  for (State& state : states) {
    ASSERT_OK_AND_ASSIGN(const auto two, DataParallelRun::Create(
                                             backends, *model.files, options));
    for (int i = 0; i < 3; ++i) ASSERT_OK(two->Step(examples, nullptr));
    state = StateOf(backends[0], two->run(0));
    EXPECT_TRUE(StateOf(backends[1], two->run(1)) == state);
  }
  EXPECT_TRUE(states[0] == states[1]);
  options.context_parallel = 1;
  ASSERT_OK_AND_ASSIGN(const auto one, TrainingRunImpl::Create(
                                           backends[0], *model.files, options));
  for (int i = 0; i < 3; ++i) ASSERT_OK(one->Step(examples, nullptr));
  const State want = StateOf(backends[0], *one);
  for (const auto& [name, values] : want) {
    EXPECT_TRUE(testing::AllClose(states[0].at(name), values, 2e-4, 1e-3))
        << name;
  }
}

}  // namespace
}  // namespace sinklora
