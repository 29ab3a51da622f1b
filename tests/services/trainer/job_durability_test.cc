// What survives restarts, failed writes and broken files.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/hash.h"
#include "common/weights/checkpoint_manifest.h"
#include "services/trainer/job_manager.h"
#include "tests/services/trainer/trainer_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::trainer {
namespace {

using absl::StatusCode;
using sinklora::testing::StatusIs;
using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kNoWait(0);

class JobDurabilityTest : public TrainerCoreTest {
 protected:
  void SetUp() override {
    TrainerCoreTest::SetUp();
    AddInputs();
  }
};

TEST_F(JobDurabilityTest, StateSurvivesARestart) {
  const auto queued = Submit("a");
  const auto lease = Lease();
  ASSERT_OK(Beat(lease, {1, 2}));
  ASSERT_OK(Commit(lease, 2));
  const auto waiting = Submit("b");
  const auto before = Job(queued.name()).SerializeAsString();
  // However long the restart takes, the holder gets a whole period anew.
  clock_.AdvanceSeconds(10 * kTtlSeconds);
  Reopen();
  EXPECT_EQ(Job(queued.name()).SerializeAsString(), before);
  EXPECT_EQ(Metric("sinklora_trainer_jobs", {{"state", "running"}}), 1);
  EXPECT_EQ(Metric("sinklora_trainer_jobs", {{"state", "queued"}}), 1);
  ASSERT_OK(Beat(lease, {3}));
  ASSERT_OK_AND_ASSIGN(const auto stored, jobs_->OpenCheckpoint(lease));
  EXPECT_EQ(stored.checkpoint.step(), 2);
  EXPECT_EQ(Lease("w2").job(), waiting.name());
  clock_.AdvanceSeconds(kTtlSeconds);
  Reopen();
  ExpireLease();
  EXPECT_EQ(Job(queued.name()).state(), v1::JOB_STATE_QUEUED);
  // The epoch goes on growing across restarts.
  EXPECT_GT(Lease("w3").epoch(), lease.epoch());
  EXPECT_EQ(ReasonOf(Beat(lease).status()), "STALE_LEASE_EPOCH");
}

TEST_F(JobDurabilityTest, KeepsTheLastTwoCheckpoints) {
  const auto job = Submit();
  const auto lease = Lease();
  EXPECT_THAT(jobs_->OpenCheckpoint(lease), StatusIs(StatusCode::kNotFound));
  for (int64_t step = 10; step <= 40; step += 10) {
    ASSERT_OK(Commit(lease, step, "state " + std::to_string(step)));
  }
  ASSERT_OK_AND_ASSIGN(const auto kept, jobs_->ListCheckpoints(job.name()));
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept[0].step(), 30);
  EXPECT_EQ(kept[1].step(), 40);
  EXPECT_EQ(CountDirs("jobs/" + job.name()), 2);
  EXPECT_EQ(CountDirs("staging"), 0);
  EXPECT_EQ(Metric("sinklora_trainer_checkpoints_total"), 4);
  // A step that is committed already changes nothing.
  ASSERT_OK_AND_ASSIGN(const auto again, Commit(lease, 40, "other"));
  EXPECT_EQ(again.SerializeAsString(), kept[1].SerializeAsString());
  ASSERT_OK_AND_ASSIGN(const auto stored, jobs_->OpenCheckpoint(lease));
  ASSERT_OK_AND_ASSIGN(const std::string content,
                       ReadFile(JoinPath(stored.dir, "state.safetensors")));
  EXPECT_EQ(content, "state 40");
}

TEST_F(JobDurabilityTest, BrokenCheckpointFallsBackToTheOneBefore) {
  const auto job = Submit();
  const auto lease = Lease();
  ASSERT_OK(Commit(lease, 10));
  ASSERT_OK(Commit(lease, 20));
  const std::string broken =
      JoinPath(artifacts_->CheckpointDir(job.name(), 20), "state.safetensors");
  ASSERT_OK(WriteFileAtomic(broken, "stale"));
  ASSERT_OK_AND_ASSIGN(const auto stored, jobs_->OpenCheckpoint(lease));
  EXPECT_EQ(stored.checkpoint.step(), 10);
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 10);
  ASSERT_OK(Commit(lease, 20));  // can be committed anew
  ASSERT_OK(jobs_->OpenCheckpoint(lease));
}

TEST_F(JobDurabilityTest, CheckpointAWorkerCannotLoadIsDropped) {
  const auto job = Submit();
  const auto lease = Lease();
  ASSERT_OK(Commit(lease, 10));
  ASSERT_OK(Commit(lease, 20));
  ASSERT_OK_AND_ASSIGN(const auto stored, jobs_->OpenCheckpoint(lease, 20));
  EXPECT_EQ(stored.checkpoint.step(), 10);
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 10);
  EXPECT_EQ(CountDirs("jobs/" + job.name()), 1);
  const auto none = jobs_->OpenCheckpoint(lease, 10);
  EXPECT_THAT(none, StatusIs(StatusCode::kDataLoss, HasSubstr("10")));
  EXPECT_EQ(ReasonOf(none.status()), "CHECKPOINT_BROKEN");
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 0);
}

TEST_F(JobDurabilityTest, CheckpointMustBeWhatItsManifestSays) {
  const auto job = Submit();
  const auto lease = Lease();
  const auto commit = [&](const std::map<std::string, std::string>& content) {
    const auto staged = artifacts_->NewStaging();
    EXPECT_OK(staged);
    for (const auto& [path, bytes] : content) {
      EXPECT_OK(WriteFileAtomic(JoinPath((*staged)->path(), path), bytes));
    }
    const auto files = DescribeFiles((*staged)->path());
    EXPECT_OK(files);
    v1::CommitCheckpointHeader header;
    *header.mutable_lease() = lease;
    header.set_step(10);
    return jobs_->CommitCheckpoint(header, (*staged)->path(), *files).status();
  };
  ASSERT_OK_AND_ASSIGN(const auto temp, TempDir::Create());
  const auto manifest = [&](int64_t step, int64_t size_bytes) {
    EXPECT_OK(WriteCheckpointManifest(
        temp->path(), {step, "{}", size_bytes, Sha256Hex("state")}));
    return ReadFile(JoinPath(temp->path(), "manifest.json")).value();
  };
  const std::vector<std::map<std::string, std::string>> broken = {
      {{"state.safetensors", "state"}},
      {{"state.safetensors", "state"}, {"manifest.json", "{}"}},
      {{"manifest.json", manifest(10, 5)}},
      {{"state.safetensors", "state"}, {"manifest.json", manifest(9, 5)}},
      {{"state.safetensors", "state"}, {"manifest.json", manifest(10, 6)}},
      {{"state.safetensors", "other"}, {"manifest.json", manifest(10, 5)}},
  };
  for (const auto& content : broken) {
    const absl::Status refused = commit(content);
    EXPECT_THAT(refused, StatusIs(StatusCode::kInvalidArgument,
                                  HasSubstr("checkpoint of step 10")));
    EXPECT_EQ(ReasonOf(refused), "INVALID_CHECKPOINT");
  }
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 0);
  EXPECT_OK(commit(
      {{"state.safetensors", "state"}, {"manifest.json", manifest(10, 5)}}));
}

TEST_F(JobDurabilityTest, FailedWriteLeavesNothingHalfDone) {
  store_->FailWrite(1);
  v1::CreateTrainingJobRequest create;
  *create.mutable_spec() = Spec();
  create.set_request_id("r");
  EXPECT_THAT(jobs_->CreateJob(create),
              StatusIs(StatusCode::kResourceExhausted));
  ASSERT_OK_AND_ASSIGN(const auto none, jobs_->ListJobs({}));
  EXPECT_EQ(none.jobs_size(), 0);
  ASSERT_OK_AND_ASSIGN(const auto job, jobs_->CreateJob(create));

  store_->FailWrite(1);
  EXPECT_THAT(Ask("w1"), StatusIs(StatusCode::kResourceExhausted));
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job(job.name()).attempt(), 0);
  const auto lease = Lease();

  const auto before = Job(job.name()).SerializeAsString();
  store_->FailWrite(1);
  EXPECT_FALSE(Beat(lease, {1}).ok());
  store_->FailWrite(1);
  EXPECT_FALSE(Commit(lease, 1).ok());
  EXPECT_EQ(CountDirs("jobs/" + job.name()), 0);
  store_->FailWrite(1);
  EXPECT_FALSE(Finish(lease, v1::JOB_STATE_SUCCEEDED).ok());
  EXPECT_EQ(CountDirs("adapters"), 0);
  EXPECT_THAT(registry_->GetAdapter("tuned"), StatusIs(StatusCode::kNotFound));
  EXPECT_EQ(Job(job.name()).SerializeAsString(), before);
  // The disk has room again: everything can be repeated.
  ASSERT_OK(Beat(lease, {1}));
  ASSERT_OK(Commit(lease, 1));
  ASSERT_OK(Finish(lease, v1::JOB_STATE_SUCCEEDED));
  ASSERT_OK(registry_->GetAdapter("tuned"));

  const auto expiring = Submit("b");
  Lease();
  clock_.AdvanceSeconds(kTtlSeconds);
  store_->FailWrite(1);
  jobs_->ExpireLeases();
  EXPECT_EQ(Job(expiring.name()).state(), v1::JOB_STATE_RUNNING);
  jobs_->ExpireLeases();
  EXPECT_EQ(Job(expiring.name()).state(), v1::JOB_STATE_QUEUED);
}

TEST_F(JobDurabilityTest, DeleteRemovesRowsAndFiles) {
  const auto job = Submit();
  const auto lease = Lease();
  ASSERT_OK(Commit(lease, 5));
  EXPECT_EQ(ReasonOf(Delete(job.name(), NextRequestId())), "JOB_NOT_ENDED");
  ASSERT_OK(Finish(lease, v1::JOB_STATE_SUCCEEDED));
  ASSERT_OK(Delete(job.name(), NextRequestId()));
  EXPECT_THAT(jobs_->GetJob(job.name()), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(jobs_->WaitForEvents(job.name(), 1, kNoWait),
              StatusIs(StatusCode::kNotFound));
  EXPECT_EQ(CountDirs("jobs"), 0);
  ASSERT_OK(registry_->GetAdapter("tuned"));  // what it registered stays
  EXPECT_EQ(ReasonOf(Beat(lease).status()), "STALE_LEASE_EPOCH");
  Reopen();
  ASSERT_OK_AND_ASSIGN(const auto list, jobs_->ListJobs({}));
  EXPECT_EQ(list.jobs_size(), 0);
}

TEST_F(JobDurabilityTest, ResumedJobStartsFromTheOldOnesCheckpoint) {
  const auto old_job = Submit("a");
  const auto old_lease = Lease();
  ASSERT_OK(Commit(old_lease, 20, "at 20"));
  v1::CreateTrainingJobRequest create;
  *create.mutable_spec() = Spec("b");
  create.mutable_spec()->set_resume_job(old_job.name());
  create.set_request_id("resume");
  EXPECT_EQ(ReasonOf(jobs_->CreateJob(create).status()), "CANNOT_RESUME");
  ASSERT_OK(Finish(old_lease, v1::JOB_STATE_FAILED));
  create.mutable_spec()->set_seed(9);
  EXPECT_THAT(jobs_->CreateJob(create),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("only steps, output_name")));
  create.mutable_spec()->clear_seed();
  create.mutable_spec()->set_steps(19);
  EXPECT_THAT(jobs_->CreateJob(create),
              StatusIs(StatusCode::kFailedPrecondition, HasSubstr("19")));
  create.mutable_spec()->set_steps(200);
  ASSERT_OK_AND_ASSIGN(const auto job, jobs_->CreateJob(create));
  EXPECT_EQ(job.checkpoint_step(), 20);
  // The old job may go; the new one has its own files.
  ASSERT_OK(Delete(old_job.name(), NextRequestId()));
  Reopen();
  const auto lease = Lease();
  ASSERT_OK_AND_ASSIGN(const auto stored, jobs_->OpenCheckpoint(lease));
  EXPECT_EQ(stored.checkpoint.step(), 20);
  ASSERT_OK_AND_ASSIGN(const std::string content,
                       ReadFile(JoinPath(stored.dir, "state.safetensors")));
  EXPECT_EQ(content, "at 20");
}

TEST_F(JobDurabilityTest, BadResultIsRefusedAndTheJobGoesOn) {
  const auto job = Submit();
  const auto lease = Lease();
  ASSERT_OK_AND_ASSIGN(const auto staged, artifacts_->NewStaging());
  ASSERT_OK(
      WriteFileAtomic(JoinPath(staged->path(), "adapter_config.json"), "{}"));
  ASSERT_OK_AND_ASSIGN(const auto files, DescribeFiles(staged->path()));
  v1::FinishJobHeader header;
  *header.mutable_lease() = lease;
  header.set_outcome(v1::JOB_STATE_SUCCEEDED);
  EXPECT_THAT(jobs_->FinishJob(header, staged->path(), files),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(CountDirs("adapters"), 0);
}

}  // namespace
}  // namespace sinklora::trainer
