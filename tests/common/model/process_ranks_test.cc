// Training runs that span processes: here threads that share nothing but
// emulated links. Bits against one process, stopping together, and what a
// process leaves behind that fails.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <optional>
#include <thread>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/model/internal/data_parallel_run.h"
#include "tests/common/model/training_state.h"
#include "tests/testing/cuda_emulation/emulated_communicator.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"

namespace sinklora {
namespace {

using internal::DataParallelRun;
using ::sinklora::testing::StatusIs;
using ::testing::Each;
using ::testing::HasSubstr;

constexpr int64_t kVocab = 48;

// What a trainer is to workers: where rank 0 leaves the id.
class IdBoard {
 public:
  absl::StatusOr<kernels::CollectiveId> Make(kernels::Backend* backend) {
    kernels::CollectiveId id;
    SL_RETURN_IF_KERNEL_ERROR(backend->MakeCollectiveId(&id));
    MutexLock lock(&mutex_);
    id_ = id;
    changed_.NotifyAll();
    return id;
  }
  absl::StatusOr<kernels::CollectiveId> Wait() {
    MutexLock lock(&mutex_);
    while (!id_) changed_.Wait(&mutex_);
    return *id_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::optional<kernels::CollectiveId> id_ ABSL_GUARDED_BY(mutex_);
};

struct Process {
  int first = 0;
  std::vector<kernels::Backend*> backends;
  GroupAbort abort;
  std::unique_ptr<DataParallelRun> run;
};

class ProcessRanksTest : public ::testing::Test {
 protected:
  using Processes = std::vector<std::unique_ptr<Process>>;
  using Call = std::function<absl::Status(Process* process)>;

  static void SetUpTestSuite() {
    model_ = new ModelOnDisk(MakeModel(SmallConfig(false), 1));
  }
  static void TearDownTestSuite() { delete model_; }

  ProcessRanksTest() {
    options_ = SmallTrainingOptions();
    options_.accumulation_steps = 3;
    for (int i = 0; i < 3; ++i) {
      std::unique_ptr<kernels::Backend> backend;
      const kernels::Status status =
          emulation::OpenEmulated(&backend, nullptr, i);
      EXPECT_TRUE(status.ok()) << status.message();
      backends_.push_back(std::move(backend));
    }
  }

  static std::vector<TrainingExample> Examples(uint64_t seed) {
    return {RandomExample({7, 3}, kVocab / 3, seed),
            RandomExample({13}, kVocab, seed + 1),
            RandomExample({5, 4}, kVocab / 2, seed + 2)};
  }

  // Makes the call in all processes at the same time. As a trainer does, tells
  // the others when one failed, if `abort`.
  static std::vector<absl::Status> InAll(const Processes& processes,
                                         const Call& call, bool abort = false) {
    std::vector<absl::Status> out(processes.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < processes.size(); ++i) {
      threads.emplace_back([&, i] {
        out[i] = call(processes[i].get());
        if (out[i].ok() || !abort) return;
        for (const auto& process : processes) process->abort.Abort();
      });
    }
    for (std::thread& thread : threads) thread.join();
    return out;
  }

  // Processes with so many devices each.
  Processes Make(const std::vector<int>& devices) {
    Processes processes;
    int total = 0;
    for (const int count : devices) {
      processes.push_back(std::make_unique<Process>());
      processes.back()->first = total;
      for (int i = 0; i < count; ++i) {
        processes.back()->backends.push_back(backends_[total++].get());
      }
    }
    IdBoard board;
    const auto made = InAll(processes, [&](Process* p) -> absl::Status {
      const RankPlace place = {.first = p->first,
                               .total = total,
                               .id =
                                   [&](kernels::Backend* backend) {
                                     return p->first == 0 ? board.Make(backend)
                                                          : board.Wait();
                                   },
                               .abort = &p->abort};
      SL_ASSIGN_OR_RETURN(
          p->run, DataParallelRun::Create(p->backends, *model_->files, options_,
                                          place));
      return absl::OkStatus();
    });
    EXPECT_THAT(made, Each(StatusIs(absl::StatusCode::kOk)));
    return processes;
  }
  // The same devices in one.
  std::unique_ptr<DataParallelRun> MakeOne(int devices) {
    std::vector<kernels::Backend*> backends;
    for (int i = 0; i < devices; ++i) backends.push_back(backends_[i].get());
    auto run = DataParallelRun::Create(backends, *model_->files, options_);
    EXPECT_OK(run);
    return run.ok() ? std::move(*run) : nullptr;
  }

  // Of all ranks, which must be equal to the bit.
  State StateOfAll(const Processes& processes) {
    State first = StateOf(backends_[0].get(), processes[0]->run->run(0));
    for (const auto& process : processes) {
      for (size_t i = 0; i < process->backends.size(); ++i) {
        EXPECT_TRUE(StateOf(process->backends[i],
                            process->run->run(static_cast<int>(i))) == first);
      }
    }
    return first;
  }
  static void StepAll(const Processes& processes, uint64_t seed) {
    EXPECT_THAT(InAll(processes,
                      [&](Process* p) {
                        return p->run->Step(Examples(seed), nullptr).status();
                      }),
                Each(StatusIs(absl::StatusCode::kOk)));
  }

  static ModelOnDisk* model_;
  TrainingOptions options_;
  std::vector<std::unique_ptr<kernels::Backend>> backends_;
};
ModelOnDisk* ProcessRanksTest::model_ = nullptr;

TEST_F(ProcessRanksTest, EqualNumbersOfDevicesGiveEqualBits) {
  const auto one = MakeOne(3);
  ASSERT_OK_AND_ASSIGN(const StepMetrics step, one->Step(Examples(1), nullptr));
  ASSERT_OK_AND_ASSIGN(const double loss,
                       one->ValidationLoss(Examples(5), nullptr));
  const State want = StateOf(backends_[0].get(), one->run(0));
  const std::vector<std::vector<int>> ways = {{2, 1}, {1, 2}, {1, 1, 1}, {3}};
  for (const std::vector<int>& devices : ways) {
    const Processes processes = Make(devices);
    EXPECT_EQ(processes[0]->run->size(), 3);
    const auto ran = InAll(processes, [&](Process* p) -> absl::Status {
      SL_ASSIGN_OR_RETURN(const StepMetrics metrics,
                          p->run->Step(Examples(1), nullptr));
      EXPECT_EQ(metrics.loss, step.loss);
      EXPECT_EQ(metrics.gradient_norm, step.gradient_norm);
      EXPECT_EQ(metrics.tokens, step.tokens);
      SL_ASSIGN_OR_RETURN(const double validated,
                          p->run->ValidationLoss(Examples(5), nullptr));
      EXPECT_EQ(validated, loss);
      return absl::OkStatus();
    });
    EXPECT_THAT(ran, Each(StatusIs(absl::StatusCode::kOk)));
    EXPECT_TRUE(StateOfAll(processes) == want);
  }
}

TEST_F(ProcessRanksTest, ACutSequenceSpansProcesses) {
  options_.accumulation_steps = 1;
  options_.context_parallel = 2;
  options_.context_tokens = 64;
  const std::vector<TrainingExample> examples = {
      RandomExample({64}, kVocab, 3)};
  const auto one = MakeOne(2);
  ASSERT_OK(one->Step(examples, nullptr));
  const Processes processes = Make({1, 1});
  EXPECT_THAT(InAll(processes,
                    [&](Process* p) {
                      return p->run->Step(examples, nullptr).status();
                    }),
              Each(StatusIs(absl::StatusCode::kOk)));
  EXPECT_TRUE(StateOfAll(processes) ==
              StateOf(backends_[0].get(), one->run(0)));
}

TEST_F(ProcessRanksTest, OneThatIsCancelledStopsAllAtTheSameStep) {
  const Processes processes = Make({1, 2});
  const State before = StateOfAll(processes);
  for (const size_t cancelled : {0, 1}) {
    Cancellation cancellation;
    cancellation.Cancel();
    const Cancellation not_cancelled;
    const auto of = [&](Process* p) {
      return p == processes[cancelled].get() ? &cancellation : &not_cancelled;
    };
    EXPECT_THAT(InAll(processes,
                      [&](Process* p) {
                        return p->run->Step(Examples(1), of(p)).status();
                      }),
                Each(StatusIs(absl::StatusCode::kCancelled)));
    EXPECT_THAT(
        InAll(processes,
              [&](Process* p) {
                return p->run->ValidationLoss(Examples(1), of(p)).status();
              }),
        Each(StatusIs(absl::StatusCode::kCancelled)));
    EXPECT_TRUE(StateOfAll(processes) == before);
  }
  // And they can go on.
  StepAll(processes, 1);
  const auto one = MakeOne(3);
  ASSERT_OK(one->Step(Examples(1), nullptr));
  EXPECT_TRUE(StateOfAll(processes) ==
              StateOf(backends_[0].get(), one->run(0)));
}

// A loss that is not finite, in one process alone.
TEST_F(ProcessRanksTest, AFailingProcessLeavesAllAsTheyWere) {
  const Processes processes = Make({2, 1});
  const State before = StateOfAll(processes);
  const std::string embedding(internal::kEmbeddingTensor);
  const int64_t hidden = SmallConfig(false).hidden_size;
  auto examples = Examples(1);
  const auto token = static_cast<int64_t>(examples[2].token_ids[0]);
  SetRow(backends_[2].get(), processes[1]->run->run(0), embedding, token,
         std::vector<float>(static_cast<size_t>(hidden), INFINITY));
  const auto stepped = InAll(
      processes,
      [&](Process* p) { return p->run->Step(examples, nullptr).status(); },
      /*abort=*/true);
  EXPECT_THAT(stepped[0], StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(stepped[1],
              StatusIs(absl::StatusCode::kInternal, HasSubstr("loss")));
  SetRow(backends_[2].get(), processes[1]->run->run(0), embedding, token,
         std::span(before.at(embedding)).subspan(token * hidden, hidden));
  EXPECT_TRUE(StateOfAll(processes) == before);
}

TEST_F(ProcessRanksTest, ABrokenLinkIsTheEndOfTheGroup) {
  const Processes processes = Make({1, 1});
  const State before = StateOfAll(processes);
  emulation::FailExchange(1, 3);
  for (int i = 0; i < 2; ++i) {
    const auto stepped = InAll(processes, [&](Process* p) {
      return p->run->Step(Examples(1), nullptr).status();
    });
    EXPECT_THAT(stepped, Each(StatusIs(absl::StatusCode::kUnavailable)));
    EXPECT_THAT(stepped[1],
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("broken")));
  }
  EXPECT_TRUE(StateOfAll(processes) == before);
}

TEST_F(ProcessRanksTest, AnAbortEndsTheWaitForOthers) {
  const Processes processes = Make({1, 1});
  std::thread stepping([&] {
    EXPECT_THAT(processes[0]->run->Step(Examples(1), nullptr),
                StatusIs(absl::StatusCode::kUnavailable));
  });
  processes[0]->abort.Abort();  // the other one never steps
  stepping.join();
}

TEST_F(ProcessRanksTest, AllGetTheCheckpointThatOneReads) {
  ASSERT_OK_AND_ASSIGN(const auto dir, TempDir::Create());
  const std::string saved = JoinPath(dir->path(), "saved");
  const auto load = [](const Processes& processes, const std::string& from) {
    return InAll(processes, [&](Process* p) {
      return p->run->LoadCheckpoint(p->first == 0 ? from : "");
    });
  };
  const Processes first = Make({1, 1});
  const State fresh = StateOfAll(first);
  EXPECT_THAT(load(first, ""), Each(StatusIs(absl::StatusCode::kOk)));
  EXPECT_TRUE(StateOfAll(first) == fresh);
  StepAll(first, 1);
  ASSERT_OK(first[0]->run->SaveCheckpoint(saved));

  // One that cannot be read is nothing that the others hear of.
  const Processes second = Make({1, 1});
  EXPECT_FALSE(second[0]->run->LoadCheckpoint(dir->path() + "/none").ok());
  EXPECT_THAT(load(second, saved), Each(StatusIs(absl::StatusCode::kOk)));
  EXPECT_EQ(second[1]->run->step(), 1);
  EXPECT_TRUE(StateOfAll(second) == StateOfAll(first));
  StepAll(first, 11);
  StepAll(second, 11);
  EXPECT_TRUE(StateOfAll(second) == StateOfAll(first));
}

TEST_F(ProcessRanksTest, RefusesPlacesThatAreNone) {
  GroupAbort abort;
  const std::vector<kernels::Backend*> backends = {backends_[0].get()};
  const auto create = [&](int first, int total) {
    const RankPlace place = {
        .first = first,
        .total = total,
        .id = [](kernels::Backend*) { return kernels::CollectiveId(); },
        .abort = &abort};
    return TrainingRun::Create(backends, *model_->files, options_, place)
        .status();
  };
  EXPECT_THAT(create(2, 2), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("[2, 3), must be in [0, 2)")));
  EXPECT_THAT(create(0, 4), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("are 4, must be in [1, 3]")));
  options_.context_parallel = 2;
  EXPECT_THAT(create(0, 3),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("context_parallel is 2, must divide")));
}

}  // namespace
}  // namespace sinklora
