// A worker that dies, hangs or is told to stop in the middle of a job costs no
// result: another attempt goes on from the last checkpoint and ends with the
// very bytes of an uninterrupted run.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/e2e/fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

constexpr int64_t kSteps = 400;
constexpr int64_t kCheckpointEvery = 20;
constexpr char kStepsDone[] = "sinklora_worker_step_duration_seconds_count";

class WorkerCrashTest : public ClusterTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(StartWithData(
        {.lease_ttl_seconds = 5,  // a busy machine holds renewals up
         .parts = {Part::kTrainer, Part::kCurator, Part::kWorker}}));
  }

  // What a run that nothing disturbs ends with.
  void RunUndisturbed(int64_t steps = kSteps) {
    ASSERT_OK_AND_ASSIGN(const std::string name,
                         Submit("whole", steps, kCheckpointEvery));
    ASSERT_OK_AND_ASSIGN(const auto job, WaitForSuccess(name));
    EXPECT_EQ(job["attempt"], 1);
    ASSERT_OK_AND_ASSIGN(whole_, Export("whole"));
    EXPECT_EQ(whole_.count("adapter_model.safetensors"), 1u);
  }
  // Starts the same job and returns its name once it has a checkpoint.
  std::string StartDisturbed() {
    const auto name = Submit("disturbed", kSteps, kCheckpointEvery);
    EXPECT_THAT(name, IsOk());
    EXPECT_THAT(WaitForFirstCheckpoint(), IsOk());
    return *name;
  }
  // The worker that was started last did only what was left to do.
  void ExpectResumed() {
    ASSERT_OK_AND_ASSIGN(const double steps, Metric(Part::kWorker, kStepsDone));
    EXPECT_GT(steps, 0);
    EXPECT_LE(steps, kSteps - kCheckpointEvery);
  }
  double Expiries() {
    const auto expiries =
        Metric(Part::kTrainer, "sinklora_trainer_lease_expiries_total");
    EXPECT_THAT(expiries, IsOk());
    return expiries.value_or(-1);
  }
  void ExpectSameResult(const std::string& name) {
    ASSERT_OK_AND_ASSIGN(const auto job, WaitForSuccess(name));
    EXPECT_GE(job["attempt"], 2) << job.dump();
    ASSERT_OK_AND_ASSIGN(const auto files, Export("disturbed"));
    EXPECT_EQ(files.size(), whole_.size());
    for (const auto& [path, bytes] : whole_) {
      EXPECT_TRUE(files.count(path) == 1 && files.at(path) == bytes) << path;
    }
  }

  std::map<std::string, std::string> whole_;
};

TEST_F(WorkerCrashTest, KilledInMidJob) {
  ASSERT_NO_FATAL_FAILURE(RunUndisturbed());
  const std::string name = StartDisturbed();
  cluster_->KillPart(Part::kWorker);
  ASSERT_OK_AND_ASSIGN(const auto job, Job(name));
  ASSERT_EQ(job["state"], "JOB_STATE_RUNNING") << "ended before the kill";
  ASSERT_THAT(cluster_->StartPart(Part::kWorker), IsOk());
  ExpectSameResult(name);
  ExpectResumed();
  EXPECT_GE(Expiries(), 1);
}

TEST_F(WorkerCrashTest, ToldToStopInMidJob) {
  constexpr int64_t kManySteps = 600;
  ASSERT_NO_FATAL_FAILURE(RunUndisturbed(kManySteps));
  // The only checkpoint is the one that the stop leaves.
  ASSERT_OK_AND_ASSIGN(const std::string name,
                       Submit("disturbed", kManySteps, 0));
  ASSERT_TRUE(WaitUntil(kPatienceSeconds, [&] {
    return Metric(Part::kWorker, kStepsDone).value_or(0) > kManySteps;
  }));
  const double expiries = Expiries();
  Process* worker = cluster_->process(Part::kWorker);
  worker->Signal(SIGTERM);
  ASSERT_OK_AND_ASSIGN(const int code, worker->WaitForExit(kPatienceSeconds));
  EXPECT_EQ(code, 0) << worker->err();
  ASSERT_OK_AND_ASSIGN(const auto job, Job(name));
  const std::string left = job["checkpoint_step"];
  const int64_t done = std::stoll(left);
  EXPECT_GE(done, 1);
  ASSERT_LT(done, kManySteps) << "ended before the stop";
  EXPECT_EQ(job["checkpoints"].size(), 1u);

  ASSERT_THAT(cluster_->StartPart(Part::kWorker), IsOk());
  ExpectSameResult(name);
  // Not one step was lost or done twice.
  EXPECT_EQ(Metric(Part::kWorker, kStepsDone).value_or(-1), kManySteps - done);
  EXPECT_EQ(Expiries(), expiries);  // it gave the job back
}

TEST_F(WorkerCrashTest, StaleWritesAreRefused) {
  ASSERT_NO_FATAL_FAILURE(RunUndisturbed());
  const std::string name = StartDisturbed();
  // A worker that stands still loses its lease, another one does the job, and
  // the first wakes up too late.
  Process* stale = cluster_->process(Part::kWorker);
  stale->Signal(SIGSTOP);
  ASSERT_THAT(cluster_->StartSecondWorker(), IsOk());
  ExpectSameResult(name);
  ASSERT_OK_AND_ASSIGN(const auto before, Job(name));
  ASSERT_OK_AND_ASSIGN(const auto adapters_before,
                       cluster_->CliJson({"model", "list"}));
  const auto refused = [this] {
    return Metric(Part::kTrainer,
                  "sinklora_trainer_stale_writes_rejected_total")
        .value_or(-1);
  };
  const double refused_before = refused();
  stale->Signal(SIGCONT);
  // It drops the job once it is told so.
  EXPECT_TRUE(WaitUntil(kPatienceSeconds, [&] {
    return MetricAt(cluster_->metrics_address(Part::kWorker),
                    "sinklora_worker_jobs_total", {"outcome=\"abandoned\""})
               .value_or(0) == 1;
  }));
  EXPECT_GE(refused(), refused_before + 1);
  // All of the job, and with it every event and checkpoint, is as it was.
  ASSERT_OK_AND_ASSIGN(const auto after, Job(name));
  EXPECT_EQ(after, before);
  ASSERT_OK_AND_ASSIGN(const auto adapters_after,
                       cluster_->CliJson({"model", "list"}));
  EXPECT_EQ(adapters_after, adapters_before);
  // The stale one lives and takes the next job alone.
  cluster_->StopSecondWorker();
  ASSERT_OK_AND_ASSIGN(const std::string next, Submit("next", 5, 0));
  ASSERT_THAT(WaitForSuccess(next), IsOk());
}

}  // namespace
}  // namespace sinklora::testing
