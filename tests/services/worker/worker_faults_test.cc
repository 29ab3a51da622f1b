// What a worker's writes do when they come too late or find no room: one job is
// touched at most, and what was committed stays.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "common/rpc/channel.h"
#include "common/rpc/status_translation.h"
#include "tests/services/worker/worker_fixture.h"

namespace sinklora::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using trainer::v1::TrainingJob;

class WorkerFaultsTest : public WorkerE2eTest {
 protected:
  // Files that the trainer keeps below `directory`.
  std::vector<std::string> TrainerFiles(const std::string& directory) {
    const auto files =
        ListFilesRecursive(JoinPath(dir_->path(), "trainer/" + directory));
    EXPECT_OK(files);
    return files.value_or(std::vector<std::string>());
  }

  std::vector<int64_t> CheckpointSteps(const std::string& job) {
    const auto context = MakeContext(kUnaryTimeoutSeconds);
    trainer::v1::ListCheckpointsRequest request;
    request.set_name(job);
    trainer::v1::ListCheckpointsResponse response;
    EXPECT_OK(FromGrpc(
        training_->ListCheckpoints(context.get(), request, &response)));
    std::vector<int64_t> steps;
    for (const auto& checkpoint : response.checkpoints()) {
      steps.push_back(checkpoint.step());
    }
    return steps;
  }

  // The lease of whoever runs `job` runs out, and another worker does the job.
  void AnotherWorkerFinishes(const TrainingJob& job) {
    ExpireLease();
    const auto worker = MakeWorker("w2");
    worker->Start();
    Watch(job.name());
    worker->Stop();
    ASSERT_EQ(Job(job.name()).state(), trainer::v1::JOB_STATE_SUCCEEDED);
  }

  void ExpectStorageLow(const TrainingJob& job) {
    const TrainingJob failed = Job(job.name());
    EXPECT_EQ(failed.state(), trainer::v1::JOB_STATE_FAILED);
    EXPECT_EQ(failed.error_reason(), "STORAGE_LOW");
    const std::string bytes = std::to_string(kDiskReserveBytes);
    EXPECT_THAT(failed.state_reason(),
                AllOf(HasSubstr(dir_->path()), HasSubstr(bytes + " bytes free"),
                      HasSubstr(bytes + " are kept in reserve")));
    EXPECT_THAT(TrainerFiles("staging"), IsEmpty());
  }

  double StaleWrites() {
    return Metric(*metrics_, "sinklora_trainer_stale_writes_rejected_total");
  }

  static auto IsStale() {
    return StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("lease"));
  }

  const Cancellation never_;
};

TEST_F(WorkerFaultsTest, FullDiskOnCheckpointFailsTheJobAlone) {
  const std::string wanted = UndisturbedDigest(Spec("x"));
  const TrainingJob job = Submit(Spec("broken"));
  hooked_->after_commit = [this](int64_t step) { disk_full_ = step == 2; };
  ASSERT_EQ(RunNextJob(), "failed");
  hooked_->after_commit = nullptr;
  ExpectStorageLow(job);
  EXPECT_FALSE(Adapter("broken").ok());

  // The checkpoint before is whole: a job that goes on from it ends as if the
  // disk had never been full.
  EXPECT_THAT(CheckpointSteps(job.name()), ElementsAre(2));
  disk_full_ = false;
  auto spec = Spec("resumed");
  spec.set_resume_job(job.name());
  Submit(spec);
  ASSERT_EQ(RunNextJob(), "succeeded");
  ASSERT_OK_AND_ASSIGN(const auto resumed, Adapter("resumed"));
  EXPECT_EQ(resumed.digest(), wanted);
}

TEST_F(WorkerFaultsTest, FullDiskOnTheResultFailsTheJobAlone) {
  const TrainingJob job = Submit(Spec("broken"));
  hooked_->before_finish = [this](const auto& header, const std::string&) {
    if (header.outcome() == trainer::v1::JOB_STATE_SUCCEEDED) {
      disk_full_ = true;
    }
  };
  ASSERT_EQ(RunNextJob(), "failed");
  hooked_->before_finish = nullptr;
  ExpectStorageLow(job);
  EXPECT_FALSE(Adapter("broken").ok());
  EXPECT_THAT(TrainerFiles("adapters"), IsEmpty());
  EXPECT_THAT(CheckpointSteps(job.name()), ElementsAre(4, 6));
  disk_full_ = false;
  Submit(Spec("good"));
  EXPECT_EQ(RunNextJob(), "succeeded");
}

TEST_F(WorkerFaultsTest, CheckpointOfALostLeaseIsRefused) {
  const std::string wanted = UndisturbedDigest(Spec("x"));
  const TrainingJob job = Submit(Spec("tuned"));
  absl::Status late;
  TrainingJob before;
  hooked_->before_commit = [&](const auto& header, const std::string& dir) {
    if (header.step() != 4) return;
    AnotherWorkerFinishes(job);
    before = Job(job.name());
    const double stale_before = StaleWrites();
    late = hooked_->real()->CommitCheckpoint(header, dir, &never_);
    EXPECT_GE(StaleWrites(), stale_before + 1);
  };
  EXPECT_EQ(RunNextJob(), "abandoned");
  EXPECT_THAT(late, IsStale());
  EXPECT_EQ(GetErrorDetail(late).reason, "STALE_LEASE_EPOCH");
  EXPECT_EQ(before.attempt(), 2);
  EXPECT_EQ(Job(job.name()).SerializeAsString(), before.SerializeAsString());
  EXPECT_THAT(CheckpointSteps(job.name()), ElementsAre(4, 6));
  EXPECT_THAT(TrainerFiles("staging"), IsEmpty());
  ASSERT_OK_AND_ASSIGN(const auto adapter, Adapter("tuned"));
  EXPECT_EQ(adapter.digest(), wanted);
}

TEST_F(WorkerFaultsTest, EndOfALostLeaseIsRefused) {
  const std::string wanted = UndisturbedDigest(Spec("x"));
  const TrainingJob job = Submit(Spec("tuned"));
  std::vector<absl::Status> late;
  TrainingJob before;
  hooked_->before_finish = [&](trainer::v1::FinishJobHeader header,
                               const std::string& dir) {
    AnotherWorkerFinishes(job);
    before = Job(job.name());
    late.push_back(hooked_->real()->FinishJob(header, dir, &never_));
    header.set_outcome(trainer::v1::JOB_STATE_FAILED);
    header.set_message("too late");
    header.set_error_reason("TOO_LATE");
    late.push_back(hooked_->real()->FinishJob(header, "", &never_));
    header.set_outcome(trainer::v1::JOB_STATE_CANCELLED);
    late.push_back(hooked_->real()->FinishJob(header, "", &never_));
  };
  EXPECT_EQ(RunNextJob(), "abandoned");
  ASSERT_EQ(late.size(), 3u);
  for (const absl::Status& status : late) {
    EXPECT_THAT(status, IsStale());
    EXPECT_EQ(GetErrorDetail(status).reason, "STALE_LEASE_EPOCH");
  }
  EXPECT_GE(StaleWrites(), 3);
  EXPECT_EQ(Job(job.name()).SerializeAsString(), before.SerializeAsString());
  ASSERT_OK_AND_ASSIGN(const auto adapter, Adapter("tuned"));
  EXPECT_EQ(adapter.digest(), wanted);
}

}  // namespace
}  // namespace sinklora::testing
