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

class WorkerCrashTest : public ClusterTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(StartWithData({.lease_ttl_seconds = 2}));
  }

  // What a run that nothing disturbs ends with.
  void RunUndisturbed() {
    ASSERT_OK_AND_ASSIGN(const std::string name,
                         Submit("whole", kSteps, kCheckpointEvery));
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
    ASSERT_OK_AND_ASSIGN(
        const double steps,
        Metric(Part::kWorker, "sinklora_worker_step_duration_seconds_count"));
    EXPECT_GT(steps, 0);
    EXPECT_LE(steps, kSteps - kCheckpointEvery);
    ASSERT_OK_AND_ASSIGN(
        const double expiries,
        Metric(Part::kTrainer, "sinklora_trainer_lease_expiries_total"));
    EXPECT_GE(expiries, 1);
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
}

TEST_F(WorkerCrashTest, ToldToStopInMidJob) {
  ASSERT_NO_FATAL_FAILURE(RunUndisturbed());
  const std::string name = StartDisturbed();
  Process* worker = cluster_->process(Part::kWorker);
  worker->Signal(SIGTERM);
  ASSERT_OK_AND_ASSIGN(const int code, worker->WaitForExit(kPatienceSeconds));
  EXPECT_EQ(code, 0) << worker->err();
  ASSERT_THAT(cluster_->StartPart(Part::kWorker), IsOk());
  ExpectSameResult(name);
  ExpectResumed();
}

TEST_F(WorkerCrashTest, StaleWritesAreRefused) {
  ASSERT_NO_FATAL_FAILURE(RunUndisturbed());
  const std::string name = StartDisturbed();
  // A worker that stands still loses its lease to the other one, and wakes up
  // too late.
  Process* stale = cluster_->process(Part::kWorker);
  stale->Signal(SIGSTOP);
  ASSERT_THAT(cluster_->StartSecondWorker(), IsOk());
  ASSERT_THAT(
      WaitForJob(name,
                 [](const nlohmann::json& job) { return job["attempt"] == 2; }),
      IsOk());
  stale->Signal(SIGCONT);
  ExpectSameResult(name);
  ASSERT_OK_AND_ASSIGN(const auto job, Job(name));
  EXPECT_EQ(job["attempt"], 2) << job.dump();
  ASSERT_OK_AND_ASSIGN(
      const double refused,
      Metric(Part::kTrainer, "sinklora_trainer_stale_writes_rejected_total"));
  EXPECT_GE(refused, 1);
  // The stale one lives and takes the next job alone.
  cluster_->StopSecondWorker();
  ASSERT_OK_AND_ASSIGN(const std::string next, Submit("next", 5, 0));
  ASSERT_THAT(WaitForSuccess(next), IsOk());
}

}  // namespace
}  // namespace sinklora::testing
