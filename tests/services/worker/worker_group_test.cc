// Jobs of two workers, each with an emulated GPU of its own: the bytes of one
// worker with both, and what is left when one of them goes.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "tests/services/worker/worker_gpu_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
using trainer::v1::TrainingJob;

// A worker process but for its loop: asks when it is told to.
struct GroupWorker {
  std::string id;
  kernels::Backend* gpu = nullptr;
  std::unique_ptr<HookedRemote> remote;
  std::unique_ptr<worker::ModelCache> models;
  std::unique_ptr<MetricsRegistry> registry = MetricsRegistry::Create();
  worker::WorkerMetrics metrics{registry.get(), 0};
  FakeClock clock;  // stands still, as in the fixture
  std::unique_ptr<worker::LeaseKeeper> keeper;
  TrainingJob job;
  std::string outcome;
};

class WorkerGroupTest : public WorkerGpuTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(WorkerGpuTest::SetUp());
    for (int i = 0; i < 2; ++i) {
      GroupWorker& w = workers_[i];
      w.id = "w" + std::to_string(i);
      w.gpu = devices_[i];
      w.remote = std::make_unique<HookedRemote>(
          worker::MakeGrpcRemote([this] { return trainer_address(); },
                                 [this] { return curator_address(); }));
      ASSERT_OK_AND_ASSIGN(
          w.models,
          worker::ModelCache::Create(JoinPath(dir_->path(), "cache-" + w.id),
                                     w.remote.get()));
    }
  }

  trainer::v1::TrainingSpec GroupSpec(const std::string& output) {
    auto spec = Spec(output);
    spec.set_steps(2);
    spec.set_checkpoint_every_steps(1);
    spec.set_workers(2);
    return spec;
  }

  // Whether the worker has a lease now.
  bool AskAs(GroupWorker* w) {
    trainer::v1::LeaseJobRequest request;
    request.set_worker_id(w->id);
    request.set_devices(1);
    request.set_can_join(true);
    const auto leased = w->remote->LeaseJob(request);
    EXPECT_OK(leased);
    if (!leased.ok() || !leased->has_lease()) return false;
    w->job = leased->job();
    w->keeper = std::make_unique<worker::LeaseKeeper>(
        w->remote.get(), &w->clock, leased->lease(),
        w->clock.MonotonicMicros());
    return true;
  }

  void RunAs(GroupWorker* w, std::vector<kernels::Backend*> backends) {
    worker::JobRunnerOptions options;
    options.remote = w->remote.get();
    options.models = w->models.get();
    options.backends = std::move(backends);
    options.metrics = &w->metrics;
    options.clock = &w->clock;
    w->outcome = worker::RunJob(options, w->job, w->keeper.get());
    w->keeper.reset();
  }

  // Both take their seats and run. How that ended, by seat.
  std::vector<std::string> RunGroup() {
    EXPECT_FALSE(AskAs(&workers_[0]));
    EXPECT_TRUE(AskAs(&workers_[1]));
    EXPECT_TRUE(AskAs(&workers_[0]));
    return RunSeats();
  }
  std::vector<std::string> RunSeats() {
    for (const GroupWorker& w : workers_) {
      if (w.keeper == nullptr) return {};  // said already
    }
    std::thread other([&] { RunAs(&workers_[1], {workers_[1].gpu}); });
    RunAs(&workers_[0], {workers_[0].gpu});
    other.join();
    return {workers_[0].outcome, workers_[1].outcome};
  }

  // Digest of what one worker with both devices makes of the spec; made once.
  std::string DigestOfOneWorker(trainer::v1::TrainingSpec spec) {
    static auto* const digests = new std::map<std::string, std::string>();
    spec.set_workers(1);
    std::string& digest = (*digests)[spec.SerializeAsString()];
    if (digest.empty()) digest = UndisturbedDigest(spec);
    return digest;
  }
  std::string DigestOf(const std::string& output) {
    const auto adapter = Adapter(output);
    EXPECT_OK(adapter);
    return adapter.ok() ? adapter->digest() : "";
  }

  GroupWorker workers_[2];
};

TEST_F(WorkerGroupTest, TrainsToTheBytesOfOneWorkerWithBothDevices) {
  auto spec = GroupSpec("group");
  spec.set_validate_every_steps(2);
  const std::string wanted = DigestOfOneWorker(spec);
  const TrainingJob job = Submit(spec);
  EXPECT_THAT(RunGroup(), ElementsAre("succeeded", "followed"));
  EXPECT_EQ(DigestOf("group"), wanted);
  const TrainingJob done = Job(job.name());
  EXPECT_EQ(done.attempt(), 1);
  EXPECT_EQ(done.plan().devices(), 2);
  EXPECT_THAT(done.plan().backend(), HasSubstr("cuda:0, "));
  EXPECT_EQ(done.metrics().total_tokens(), 2 * 2 * kContextTokens);
  EXPECT_TRUE(done.metrics().has_validation_loss());
  EXPECT_EQ(done.resolved().workers(), 2);
  // Once, not by each worker.
  EXPECT_EQ(Metric(*workers_[0].registry,
                   "sinklora_worker_tokens_total{worker=\"0\"}"),
            2 * 2 * kContextTokens);
  EXPECT_EQ(Metric(*workers_[1].registry,
                   "sinklora_worker_tokens_total{worker=\"0\"}"),
            0);
}

TEST_F(WorkerGroupTest, CutsASequenceOverBoth) {
  auto spec = GroupSpec("group");
  spec.set_steps(1);
  spec.set_accumulation_steps(1);
  spec.set_context_parallel(2);
  const std::string wanted = DigestOfOneWorker(spec);
  Submit(spec);
  EXPECT_THAT(RunGroup(), ElementsAre("succeeded", "followed"));
  EXPECT_EQ(DigestOf("group"), wanted);
}

// The second worker cannot reach the trainer any more, stops by itself and
// takes its end of the links with it.
TEST_F(WorkerGroupTest, OneThatDiesIsReplaced) {
  const std::string wanted = DigestOfOneWorker(GroupSpec("group"));
  const TrainingJob job = Submit(GroupSpec("group"));
  workers_[0].remote->after_commit = [&](int64_t step) {
    if (step != 1) return;
    workers_[1].remote->cut = true;
    workers_[1].clock.AdvanceSeconds(kTtlSeconds);
    EXPECT_FALSE(workers_[1].keeper->Flush().ok());
  };
  EXPECT_THAT(RunGroup(), ElementsAre("abandoned", "abandoned"));
  const TrainingJob lost = Job(job.name());
  EXPECT_EQ(lost.state(), trainer::v1::JOB_STATE_QUEUED);
  EXPECT_EQ(lost.checkpoint_step(), 1);
  EXPECT_EQ(lost.lost_attempts(), 0);  // it got on
  // What the last state was for; the reason of a waiting job goes on.
  std::vector<std::string> reasons;
  Watch(job.name(), [&](const auto& event) {
    if (event.has_state_change()) {
      reasons.push_back(event.state_change().reason());
    }
    return event.sequence() == lost.last_sequence();
  });
  EXPECT_THAT(reasons.back(), AllOf(HasSubstr("given up by worker w0"),
                                    HasSubstr("its peer has left")));

  workers_[0].remote->after_commit = nullptr;
  workers_[1].remote->cut = false;
  workers_[1].id = "w2";
  EXPECT_THAT(RunGroup(), ElementsAre("succeeded", "followed"));
  EXPECT_EQ(DigestOf("group"), wanted);
  EXPECT_EQ(Job(job.name()).attempt(), 2);
  EXPECT_EQ(Job(job.name()).metrics().total_tokens(), 2 * 2 * kContextTokens);
}

TEST_F(WorkerGroupTest, TheLossOfTheLeaseEndsTheWaitForOthers) {
  auto spec = GroupSpec("group");
  spec.set_steps(100'000);
  const TrainingJob job = Submit(spec);
  workers_[0].remote->after_commit = [&](int64_t step) {
    if (step == 1) ExpireLease();
  };
  EXPECT_THAT(RunGroup(), ElementsAre("abandoned", "abandoned"));
  EXPECT_EQ(Job(job.name()).state(), trainer::v1::JOB_STATE_QUEUED);
}

// The news of the cancel reaches one of them first. The other one, which only
// waits while the first commits, may have done its share of the next step.
TEST_F(WorkerGroupTest, ACancelStopsBothAtTheSameStep) {
  for (const int first : {0, 1}) {
    auto spec = GroupSpec("group" + std::to_string(first));
    spec.set_steps(100'000);
    const TrainingJob job = Submit(spec);
    workers_[0].remote->after_commit = [&](int64_t step) {
      if (step != 1) return;
      ASSERT_OK(Cancel(job.name()));
      ASSERT_OK(workers_[first].keeper->Flush());
    };
    EXPECT_THAT(RunGroup(), ElementsAre("cancelled", "followed"));
    const TrainingJob cancelled = Job(job.name());
    EXPECT_EQ(cancelled.state(), trainer::v1::JOB_STATE_CANCELLED);
    EXPECT_THAT(cancelled.checkpoint_step(), AnyOf(1, 1 + first));
    EXPECT_EQ(cancelled.metrics().step(), cancelled.checkpoint_step());
  }
}

TEST_F(WorkerGroupTest, AWorkerThatShutsDownHandsOverTheProgressOfAll) {
  auto spec = GroupSpec("group");
  spec.set_steps(4);
  const std::string wanted = DigestOfOneWorker(spec);
  const TrainingJob job = Submit(spec);
  workers_[0].remote->after_commit = [&](int64_t step) {
    if (step == 1) workers_[1].keeper->RequestShutdown();
  };
  EXPECT_THAT(RunGroup(), ElementsAre("released", "followed"));
  EXPECT_EQ(Job(job.name()).state(), trainer::v1::JOB_STATE_QUEUED);
  // It may have done its share of the next step while the first was committed.
  EXPECT_THAT(Job(job.name()).checkpoint_step(), AnyOf(1, 2));
  EXPECT_EQ(Job(job.name()).lost_attempts(), 0);
  workers_[0].remote->after_commit = nullptr;
  EXPECT_THAT(RunGroup(), ElementsAre("succeeded", "followed"));
  EXPECT_EQ(DigestOf("group"), wanted);
}

TEST_F(WorkerGroupTest, AWorkerThatShutsDownBeforeTheStartGivesTheJobBack) {
  for (const int which : {0, 1}) {
    const TrainingJob job = Submit(GroupSpec("group"));
    EXPECT_FALSE(AskAs(&workers_[0]));
    EXPECT_TRUE(AskAs(&workers_[1]));
    EXPECT_TRUE(AskAs(&workers_[0]));
    workers_[which].keeper->RequestShutdown();
    EXPECT_THAT(RunSeats(), UnorderedElementsAre("released", "abandoned"));
    EXPECT_EQ(workers_[which].outcome, "released");
    EXPECT_EQ(Job(job.name()).state(), trainer::v1::JOB_STATE_QUEUED);
    EXPECT_EQ(Job(job.name()).lost_attempts(), 0);
    ASSERT_OK(Cancel(job.name()));
  }
}

// One has lost its device: the job has failed, and the other one, which waits
// for it, hears of that.
TEST_F(WorkerGroupTest, AFailureOfAnyWorkerFailsTheJob) {
  for (const int failing : {0, 1}) {
    const TrainingJob job = Submit(GroupSpec("group"));
    EXPECT_FALSE(AskAs(&workers_[0]));
    EXPECT_TRUE(AskAs(&workers_[1]));
    EXPECT_TRUE(AskAs(&workers_[0]));
    std::thread other([&] { RunAs(&workers_[failing], {}); });
    RunAs(&workers_[1 - failing], {workers_[1 - failing].gpu});
    other.join();
    EXPECT_EQ(workers_[failing].outcome, "failed");
    EXPECT_EQ(workers_[1 - failing].outcome, "abandoned");
    EXPECT_EQ(Job(job.name()).state(), trainer::v1::JOB_STATE_FAILED);
    EXPECT_THAT(Job(job.name()).state_reason(), HasSubstr("lease.ranks is 1"));
  }
}

TEST_F(WorkerGroupTest, ABrokenCheckpointIsDroppedByAllAlike) {
  const std::string wanted = DigestOfOneWorker(GroupSpec("group"));
  const TrainingJob job = Submit(GroupSpec("group"));
  workers_[0].remote->before_commit = [](const auto& header,
                                         const std::string& dir) {
    if (header.step() != 2) return;
    ASSERT_OK(RemoveAll(JoinPath(dir, "progress.binpb")));
  };
  workers_[0].remote->after_commit = [&](int64_t step) {
    if (step == 2) ExpireLease();
  };
  EXPECT_THAT(RunGroup(), ElementsAre("abandoned", "followed"));
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 2);
  workers_[0].remote->before_commit = nullptr;
  workers_[0].remote->after_commit = nullptr;
  EXPECT_THAT(RunGroup(), ElementsAre("succeeded", "followed"));
  EXPECT_EQ(DigestOf("group"), wanted);
}

TEST_F(WorkerGroupTest, RefusesDevicesThatDoNotFit) {
  auto spec = GroupSpec("group");
  spec.set_context_parallel(4);
  const TrainingJob job = Submit(spec);
  RunGroup();
  EXPECT_EQ(Job(job.name()).error_reason(), "DEVICES_DO_NOT_FIT");
  EXPECT_THAT(Job(job.name()).state_reason(),
              HasSubstr("devices of the 2 workers, 2"));
}

// The CPU has no links.
TEST_F(WorkerGroupTest, AWorkerOnTheCpuTakesOtherJobs) {
  const TrainingJob group = Submit(GroupSpec("group"));
  const TrainingJob other = Submit(Spec("other"));
  const auto cpu = MakeWorker("cpu");
  cpu->Start();
  Watch(other.name());
  cpu->Stop();
  EXPECT_EQ(Job(other.name()).state(), trainer::v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Job(group.name()).state(), trainer::v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job(group.name()).state_reason(), "waiting for workers: 0 of 2");
}

}  // namespace
}  // namespace sinklora::testing
