// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/job_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "common/base/mutex.h"
#include "tests/services/trainer/trainer_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::trainer {
namespace {

using absl::StatusCode;
using sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kNoWait(0);

class JobManagerTest : public TrainerCoreTest {
 protected:
  void SetUp() override {
    TrainerCoreTest::SetUp();
    AddInputs();
  }

  absl::StatusOr<v1::TrainingJob> Cancel(const std::string& name,
                                         const std::string& request_id) {
    v1::CancelTrainingJobRequest request;
    request.set_name(name);
    request.set_request_id(request_id);
    return jobs_->CancelJob(request);
  }

  // States the job went through, from its events, whose numbers have no gap.
  std::vector<v1::JobState> States(const std::string& name) {
    std::vector<v1::JobState> states;
    int64_t next = 1;
    while (true) {
      const auto page = jobs_->WaitForEvents(name, next, kNoWait);
      EXPECT_OK(page);
      if (!page.ok() || page->events.empty()) return states;
      for (const auto& event : page->events) {
        EXPECT_EQ(event.sequence(), next++);
        if (event.has_state_change()) {
          states.push_back(event.state_change().state());
        }
      }
    }
  }
};

TEST_F(JobManagerTest, RunsFromQueuedToSucceeded) {
  const auto job = Submit();
  EXPECT_EQ(job.state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Metric("sinklora_trainer_jobs", {{"state", "queued"}}), 1);
  const auto lease = Lease();
  EXPECT_EQ(lease.job(), job.name());
  EXPECT_EQ(lease.ttl_seconds(), kTtlSeconds);
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(Job(job.name()).attempt(), 1);
  ASSERT_OK(Beat(lease, {1, 2}));
  EXPECT_EQ(Metric("sinklora_trainer_job_loss", {{"job", job.name()}}), 5);
  const auto done = Finish(lease, v1::JOB_STATE_SUCCEEDED);
  ASSERT_OK(done);
  EXPECT_EQ(done->state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_TRUE(done->has_end_time());
  // The gauge of a job is dropped with the job.
  EXPECT_EQ(Metric("sinklora_trainer_job_loss", {{"job", job.name()}}), -1);
  EXPECT_EQ(Metric("sinklora_trainer_jobs", {{"state", "queued"}}), 0);
  EXPECT_EQ(Metric("sinklora_trainer_jobs", {{"state", "succeeded"}}), 1);

  ASSERT_OK_AND_ASSIGN(const auto adapter, registry_->GetAdapter("tuned"));
  EXPECT_EQ(adapter.lineage().job(), job.name());
  EXPECT_EQ(adapter.base_model(), "base");
  EXPECT_EQ(adapter.base_model_digest(), Job(job.name()).base_model_digest());
  EXPECT_EQ(adapter.lineage().dataset(), "data");
  EXPECT_EQ(adapter.lineage().dataset_digest(), "d1");
  // The options as they were resolved, not as they were given.
  EXPECT_EQ(adapter.lineage().recipe().SerializeAsString(),
            Job(job.name()).resolved().SerializeAsString());
  EXPECT_EQ(adapter.lineage().recipe().optimizer().beta1(), 0.9);
  EXPECT_EQ(adapter.context_tokens(), 128);
  EXPECT_EQ(adapter.rope_factor(), 2);
  EXPECT_EQ(adapter.lora_rank(), 2);
  EXPECT_THAT(States(job.name()),
              ElementsAre(v1::JOB_STATE_QUEUED, v1::JOB_STATE_RUNNING,
                          v1::JOB_STATE_SUCCEEDED));
  // A worker whose answer was lost says it again.
  EXPECT_OK(Finish(lease, v1::JOB_STATE_SUCCEEDED));
  EXPECT_EQ(ReasonOf(Finish(lease, v1::JOB_STATE_FAILED).status()),
            "STALE_LEASE_EPOCH");
}

TEST_F(JobManagerTest, LeasesOldestFirstAndEachJobOnce) {
  const auto first = Submit("first");
  const auto second = Submit("second");
  EXPECT_EQ(Lease("w1").job(), first.name());
  EXPECT_EQ(Lease("w2").job(), second.name());
  ASSERT_OK_AND_ASSIGN(const auto none, Ask("w3"));
  EXPECT_FALSE(none.has_lease());
  EXPECT_GT(none.retry_after_seconds(), 0);
  EXPECT_THAT(Ask(""), StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(JobManagerTest, ExpiredLeaseIsGivenAwayAndFenced) {
  const auto job = Submit();
  const auto old_lease = Lease("w1");
  ASSERT_OK(Beat(old_lease, {1, 2, 3}));
  clock_.AdvanceSeconds(kTtlSeconds - 1);
  ASSERT_OK(Beat(old_lease));  // renewed
  clock_.AdvanceSeconds(kTtlSeconds - 1);
  jobs_->ExpireLeases();
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_RUNNING);
  clock_.AdvanceSeconds(1);
  jobs_->ExpireLeases();
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_QUEUED);
  EXPECT_THAT(Job(job.name()).state_reason(), HasSubstr("expired"));
  EXPECT_EQ(Metric("sinklora_trainer_lease_expiries_total"), 1);

  const auto new_lease = Lease("w2");
  EXPECT_GT(new_lease.epoch(), old_lease.epoch());
  EXPECT_EQ(Job(job.name()).attempt(), 2);
  // Every write of the old holder is refused and changes nothing.
  const auto before = Job(job.name()).SerializeAsString();
  for (const absl::Status& status :
       {Beat(old_lease, {4}).status(), Commit(old_lease, 4).status(),
        Finish(old_lease, v1::JOB_STATE_SUCCEEDED).status(),
        Finish(old_lease, v1::JOB_STATE_FAILED).status(),
        jobs_->OpenCheckpoint(old_lease).status(),
        jobs_->CheckLease(old_lease)}) {
    EXPECT_THAT(status, StatusIs(StatusCode::kFailedPrecondition));
    EXPECT_EQ(ReasonOf(status), "STALE_LEASE_EPOCH");
  }
  EXPECT_EQ(Job(job.name()).SerializeAsString(), before);
  EXPECT_EQ(Metric("sinklora_trainer_stale_writes_rejected_total"), 6);
  EXPECT_EQ(CountDirs("staging"), 0);
  // Steps that were reported already are ignored, new ones are not.
  ASSERT_OK(Beat(new_lease, {2, 3, 4}));
  EXPECT_EQ(Job(job.name()).metrics().step(), 4);
  ASSERT_OK(Finish(new_lease, v1::JOB_STATE_SUCCEEDED));
}

// A clock that tells when somebody has read it.
class WatchedClock final : public Clock {
 public:
  explicit WatchedClock(const Clock* clock) : clock_(clock) {}
  int64_t WallMicros() const override { return clock_->WallMicros(); }
  int64_t MonotonicMicros() const override {
    const int64_t micros = clock_->MonotonicMicros();
    MutexLock lock(&mutex_);
    ++reads_;
    changed_.NotifyAll();
    return micros;
  }
  int64_t reads() const {
    MutexLock lock(&mutex_);
    return reads_;
  }
  // Gives up after a minute, so that a test without a reader fails.
  void WaitForReads(int64_t reads) const {
    MutexLock lock(&mutex_);
    for (int i = 0; i < 60 && reads_ < reads; ++i) {
      changed_.WaitFor(&mutex_, std::chrono::seconds(1));
    }
  }

 private:
  const Clock* const clock_;
  mutable Mutex mutex_;
  mutable CondVar changed_;
  mutable int64_t reads_ = 0;
};

TEST_F(JobManagerTest, HeartbeatThatHadToWaitRenewsItsLease) {
  WatchedClock clock(&clock_);
  jobs_clock_ = &clock;
  Reopen();
  const auto job = Submit();
  const auto lease = Lease("w1");
  clock_.AdvanceSeconds(kTtlSeconds - 1);
  // Something long is being written while the heartbeat arrives in time.
  store_->HoldWrite();
  std::thread committer([&] { EXPECT_OK(Commit(lease, 10)); });
  store_->WaitUntilHeld();
  const int64_t reads = clock.reads();
  std::thread beater([&] { EXPECT_OK(Beat(lease)); });
  clock.WaitForReads(reads + 1);
  clock_.AdvanceSeconds(2);
  store_->ReleaseWrite();
  committer.join();
  beater.join();
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(Metric("sinklora_trainer_lease_expiries_total"), 0);
  jobs_.reset();  // before its clock
}

TEST_F(JobManagerTest, LeasingTakesBackWhatHasExpired) {
  const auto job = Submit();
  Lease("w1");
  clock_.AdvanceSeconds(kTtlSeconds);
  EXPECT_EQ(Lease("w2").job(), job.name());
}

TEST_F(JobManagerTest, FailsAfterTheLastAttempt) {
  const auto job = Submit();
  for (int attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    Lease();
    ExpireLease();
  }
  const auto failed = Job(job.name());
  EXPECT_EQ(failed.state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(failed.error_reason(), "MAX_ATTEMPTS");
  EXPECT_THAT(failed.state_reason(), HasSubstr("limit is 3"));
  EXPECT_EQ(failed.attempt(), kMaxAttempts);
}

TEST_F(JobManagerTest, AttemptsThatGetOnDoNotCountAgainstTheJob) {
  const auto job = Submit();
  for (int attempt = 1; attempt <= 2 * kMaxAttempts; ++attempt) {
    ASSERT_OK(Commit(Lease(), attempt));
    ExpireLease();
    ASSERT_EQ(Job(job.name()).state(), v1::JOB_STATE_QUEUED);
  }
  for (int attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    Lease();
    ExpireLease();
  }
  EXPECT_EQ(Job(job.name()).error_reason(), "MAX_ATTEMPTS");
}

TEST_F(JobManagerTest, AJobGivenBackIsQueuedAtOnceAndNotCounted) {
  const auto job = Submit();
  const auto release = [this](const v1::Lease& lease) {
    v1::HeartbeatRequest request;
    *request.mutable_lease() = lease;
    request.set_release(true);
    return jobs_->Heartbeat(request).status();
  };
  for (int attempt = 1; attempt <= 2 * kMaxAttempts; ++attempt) {
    const auto lease = Lease();
    ASSERT_OK(release(lease));
    ASSERT_EQ(Job(job.name()).state(), v1::JOB_STATE_QUEUED);
    EXPECT_EQ(Job(job.name()).attempt(), attempt);
    EXPECT_EQ(ReasonOf(Beat(lease).status()), "STALE_LEASE_EPOCH");
  }
  EXPECT_THAT(Job(job.name()).state_reason(), HasSubstr("given back"));
  EXPECT_EQ(Metric("sinklora_trainer_lease_expiries_total"), 0);
  // Nor does it forgive attempts that were lost.
  for (int lost = 1; lost < kMaxAttempts; ++lost) {
    Lease();
    ExpireLease();
    EXPECT_EQ(Job(job.name()).lost_attempts(), lost);
    ASSERT_OK(release(Lease()));
  }
  Lease();
  ExpireLease();
  EXPECT_EQ(Job(job.name()).error_reason(), "MAX_ATTEMPTS");

  const auto cancelled = Submit("b");
  const auto lease = Lease();
  ASSERT_OK(Cancel(cancelled.name(), NextRequestId()));
  ASSERT_OK(release(lease));
  EXPECT_EQ(Job(cancelled.name()).state(), v1::JOB_STATE_CANCELLED);
}

TEST_F(JobManagerTest, TheNewestEventsAreKept) {
  kept_events_ = 5;
  Reopen();
  const auto job = Submit();   // 1
  const auto lease = Lease();  // 2
  ASSERT_OK(Beat(lease, {1, 2, 3}));
  ASSERT_OK_AND_ASSIGN(auto page, jobs_->WaitForEvents(job.name(), 1, kNoWait));
  EXPECT_EQ(page.events.size(), 5u);
  ASSERT_OK(Beat(lease, {4, 5, 6}));
  ASSERT_OK_AND_ASSIGN(page, jobs_->WaitForEvents(job.name(), 1, kNoWait));
  ASSERT_EQ(page.events.size(), 5u);
  EXPECT_EQ(page.events.front().sequence(), 4);
  EXPECT_EQ(page.events.back().sequence(), 8);
  EXPECT_EQ(page.events.back().metrics().step(), 6);
  // A watcher that asks for what is gone gets what is there, to the end.
  ASSERT_OK(Finish(lease, v1::JOB_STATE_FAILED));
  ASSERT_OK_AND_ASSIGN(page, jobs_->WaitForEvents(job.name(), 1, kNoWait));
  EXPECT_EQ(page.events.front().sequence(), 5);
  EXPECT_TRUE(page.ended);
}

TEST_F(JobManagerTest, FailureOfTheJobIsRecorded) {
  const auto job = Submit();
  const auto lease = Lease();
  v1::FinishJobHeader no_reason;
  *no_reason.mutable_lease() = lease;
  no_reason.set_outcome(v1::JOB_STATE_FAILED);
  EXPECT_THAT(jobs_->FinishJob(no_reason, "", {}),
              StatusIs(StatusCode::kInvalidArgument));
  no_reason.set_outcome(v1::JOB_STATE_RUNNING);
  EXPECT_THAT(jobs_->FinishJob(no_reason, "", {}),
              StatusIs(StatusCode::kInvalidArgument));
  ASSERT_OK(Finish(lease, v1::JOB_STATE_FAILED));
  EXPECT_EQ(Job(job.name()).error_reason(), "NON_FINITE_LOSS");
  EXPECT_EQ(Job(job.name()).state_reason(), "the loss is nan at step 7");
  EXPECT_THAT(Cancel(job.name(), NextRequestId()),
              StatusIs(StatusCode::kFailedPrecondition, HasSubstr("failed")));
}

TEST_F(JobManagerTest, CancelInEveryState) {
  const auto queued = Submit("a");
  ASSERT_OK_AND_ASSIGN(const auto cancelled,
                       Cancel(queued.name(), NextRequestId()));
  EXPECT_EQ(cancelled.state(), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(ReasonOf(Cancel(queued.name(), NextRequestId()).status()),
            "JOB_ENDED");

  const auto running = Submit("b");
  const auto lease = Lease();
  EXPECT_EQ(lease.job(), running.name());
  // A worker may not make up a cancel.
  EXPECT_EQ(ReasonOf(Finish(lease, v1::JOB_STATE_CANCELLED).status()),
            "CANCEL_NOT_REQUESTED");
  ASSERT_OK_AND_ASSIGN(const auto asked,
                       Cancel(running.name(), NextRequestId()));
  EXPECT_EQ(asked.state(), v1::JOB_STATE_RUNNING);
  EXPECT_TRUE(asked.cancel_requested());
  ASSERT_OK_AND_ASSIGN(const auto beat, Beat(lease));
  EXPECT_TRUE(beat.cancel_requested());
  ASSERT_OK(Commit(lease, 5));
  ASSERT_OK(Finish(lease, v1::JOB_STATE_CANCELLED));
  EXPECT_EQ(Job(running.name()).state(), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(Job(running.name()).checkpoint_step(), 5);

  // A worker that dies with a cancel pending does not bring the job back.
  const auto orphan = Submit("c");
  Lease();
  ASSERT_OK(Cancel(orphan.name(), NextRequestId()));
  ExpireLease();
  EXPECT_EQ(Job(orphan.name()).state(), v1::JOB_STATE_CANCELLED);
  EXPECT_THAT(Cancel("job-unknown", NextRequestId()),
              StatusIs(StatusCode::kNotFound, HasSubstr("job-unknown")));
}

TEST_F(JobManagerTest, RepeatedRequestsDoNothingTwice) {
  v1::CreateTrainingJobRequest create;
  *create.mutable_spec() = Spec();
  create.set_request_id("once");
  ASSERT_OK_AND_ASSIGN(const auto first, jobs_->CreateJob(create));
  datasets_.failure = absl::UnavailableError("the curator is away");
  ASSERT_OK_AND_ASSIGN(const auto second, jobs_->CreateJob(create));
  EXPECT_EQ(first.SerializeAsString(), second.SerializeAsString());
  Reopen();
  ASSERT_OK_AND_ASSIGN(const auto third, jobs_->CreateJob(create));
  EXPECT_EQ(first.name(), third.name());
  create.mutable_spec()->set_steps(7);
  EXPECT_EQ(ReasonOf(jobs_->CreateJob(create).status()), "REQUEST_ID_REUSED");
  ASSERT_OK_AND_ASSIGN(const auto list, jobs_->ListJobs({}));
  EXPECT_EQ(list.jobs_size(), 1);

  ASSERT_OK(Cancel(first.name(), "cancel"));
  ASSERT_OK(Cancel(first.name(), "cancel"));
  ASSERT_OK(Delete(first.name(), "delete"));
  ASSERT_OK(Delete(first.name(), "delete"));
  EXPECT_THAT(Delete(first.name(), "delete-2"),
              StatusIs(StatusCode::kNotFound));
}

TEST_F(JobManagerTest, CreateRefusesWhatIsMissingOrTaken) {
  v1::CreateTrainingJobRequest create;
  *create.mutable_spec() = Spec();
  EXPECT_THAT(jobs_->CreateJob(create),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("request_id")));
  create.set_request_id(NextRequestId());
  create.mutable_spec()->set_base_model("nothing");
  EXPECT_THAT(jobs_->CreateJob(create),
              StatusIs(StatusCode::kNotFound, HasSubstr("spec.base_model")));
  *create.mutable_spec() = Spec();
  create.mutable_spec()->set_dataset("nothing");
  EXPECT_THAT(jobs_->CreateJob(create),
              StatusIs(StatusCode::kNotFound, HasSubstr("spec.dataset")));
  *create.mutable_spec() = Spec();
  datasets_.datasets["data"].set_tokenizer_digest("other");
  EXPECT_EQ(ReasonOf(jobs_->CreateJob(create).status()), "TOKENIZER_MISMATCH");
  AddInputs();
  Submit("tuned");
  EXPECT_EQ(ReasonOf(jobs_->CreateJob(create).status()), "OUTPUT_NAME_TAKEN");
  ASSERT_OK(Finish(Lease(), v1::JOB_STATE_SUCCEEDED));
  EXPECT_EQ(ReasonOf(jobs_->CreateJob(create).status()), "OUTPUT_NAME_TAKEN");
  // Nothing of all this stayed.
  ASSERT_OK_AND_ASSIGN(const auto list, jobs_->ListJobs({}));
  EXPECT_EQ(list.jobs_size(), 1);
}

TEST_F(JobManagerTest, NobodyTakesTheOutputNameOfAnActiveJob) {
  const auto job = Submit("tuned");
  for (int i = 0; i < 2; ++i) {
    const absl::Status refused =
        ImportAdapter("tuned", NextRequestId(), *StageAdapter(0.25f)).status();
    EXPECT_THAT(refused,
                StatusIs(StatusCode::kAlreadyExists, HasSubstr(job.name())));
    EXPECT_EQ(ReasonOf(refused), "NAME_RESERVED");
    EXPECT_EQ(CountDirs("adapters"), 0);
    Reopen();  // still so after a restart
  }
  // Of a model there may be one: it is another kind of name.
  EXPECT_OK(ImportModel("tuned", NextRequestId(), *StageModel(2)));
  ASSERT_OK(Finish(Lease(), v1::JOB_STATE_SUCCEEDED));
  ASSERT_OK_AND_ASSIGN(const auto adapter, registry_->GetAdapter("tuned"));
  EXPECT_EQ(adapter.lineage().job(), job.name());

  // A job that ended without a result gives the name back.
  const auto cancelled = Submit("other");
  ASSERT_OK(Cancel(cancelled.name(), NextRequestId()));
  EXPECT_OK(ImportAdapter("other", NextRequestId(), *StageAdapter(0.25f)));
  // And so does one that was never made.
  store_->FailWrite(1);
  v1::CreateTrainingJobRequest create;
  *create.mutable_spec() = Spec("third");
  create.set_request_id(NextRequestId());
  EXPECT_FALSE(jobs_->CreateJob(create).ok());
  EXPECT_OK(ImportAdapter("third", NextRequestId(), *StageAdapter(0.25f)));
}

TEST_F(JobManagerTest, ListsNewestFirstInPages) {
  std::vector<std::string> names;
  for (const char* output : {"a", "b", "c"}) {
    names.push_back(Submit(output).name());
  }
  v1::ListTrainingJobsRequest request;
  request.set_page_size(2);
  ASSERT_OK_AND_ASSIGN(const auto first, jobs_->ListJobs(request));
  ASSERT_EQ(first.jobs_size(), 2);
  EXPECT_EQ(first.jobs(0).name(), names[2]);
  EXPECT_EQ(first.jobs(1).name(), names[1]);
  request.set_page_token(first.next_page_token());
  ASSERT_OK_AND_ASSIGN(const auto second, jobs_->ListJobs(request));
  ASSERT_EQ(second.jobs_size(), 1);
  EXPECT_EQ(second.jobs(0).name(), names[0]);
  EXPECT_EQ(second.next_page_token(), "");
  request.set_page_token("x");
  EXPECT_THAT(jobs_->ListJobs(request), StatusIs(StatusCode::kInvalidArgument));
  request.set_page_size(1001);
  EXPECT_THAT(jobs_->ListJobs(request),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("1001")));
}

TEST_F(JobManagerTest, WatcherIsWokenByEvents) {
  const auto job = Submit();
  std::vector<int64_t> seen;
  std::thread watcher([&] {
    int64_t next = 1;
    while (true) {
      const auto page = jobs_->WaitForEvents(job.name(), next,
                                             std::chrono::milliseconds(5000));
      ASSERT_OK(page);
      for (const auto& event : page->events) {
        seen.push_back(event.sequence());
        next = event.sequence() + 1;
      }
      if (page->ended) return;
    }
  });
  const auto lease = Lease();
  for (int64_t step = 1; step <= 5; ++step) ASSERT_OK(Beat(lease, {step}));
  ASSERT_OK(Finish(lease, v1::JOB_STATE_FAILED));
  watcher.join();
  EXPECT_THAT(seen, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  jobs_->Stop();
  EXPECT_THAT(jobs_->WaitForEvents(job.name(), 1, kNoWait),
              StatusIs(StatusCode::kUnavailable));
}

TEST_F(JobManagerTest, ModelOfAnActiveJobCannotBeDeleted) {
  const auto job = Submit();
  registry::v1::DeleteModelRequest request;
  request.set_name("base");
  request.set_request_id("delete");
  EXPECT_THAT(jobs_->DeleteModel(request),
              StatusIs(StatusCode::kFailedPrecondition, HasSubstr(job.name())));
  ASSERT_OK(Cancel(job.name(), NextRequestId()));
  EXPECT_OK(jobs_->DeleteModel(request));
}

}  // namespace
}  // namespace sinklora::trainer
