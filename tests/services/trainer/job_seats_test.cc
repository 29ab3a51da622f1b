// Jobs of several workers: how they get their seats, hold them and lose them.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/trainer/idle_workers.h"
#include "services/trainer/job_manager.h"
#include "tests/services/trainer/trainer_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::trainer {
namespace {

using absl::StatusCode;
using sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class JobSeatsTest : public TrainerCoreTest {
 protected:
  void SetUp() override {
    TrainerCoreTest::SetUp();
    AddInputs();
  }

  v1::TrainingJob SubmitGroup(int workers, const std::string& output = "group",
                              int accumulation_steps = 8) {
    v1::CreateTrainingJobRequest request;
    *request.mutable_spec() = Spec(output);
    request.mutable_spec()->set_workers(workers);
    request.mutable_spec()->set_accumulation_steps(accumulation_steps);
    request.set_request_id(NextRequestId());
    const auto job = jobs_->CreateJob(request);
    EXPECT_OK(job);
    return job.value_or(v1::TrainingJob());
  }

  // The lease `worker`, with so many GPUs, gets when it asks; none has no name.
  v1::Lease LeaseOf(const std::string& worker, int devices = 1) {
    const auto response = Ask(worker, devices);
    EXPECT_OK(response);
    return response.ok() ? response->lease() : v1::Lease();
  }
  bool GetsNothing(const std::string& worker, int devices = 1) {
    const auto response = Ask(worker, devices);
    EXPECT_OK(response);
    return response.ok() && !response->has_lease() &&
           response->retry_after_seconds() > 0;
  }
  // Both leases of a group of w1 and w2, by seat.
  std::vector<v1::Lease> StartGroup() {
    EXPECT_TRUE(GetsNothing("w1"));
    const v1::Lease second = LeaseOf("w2");
    return {LeaseOf("w1"), second};
  }

  absl::Status Release(const v1::Lease& lease, const std::string& lost = "") {
    v1::HeartbeatRequest request;
    *request.mutable_lease() = lease;
    request.set_release(true);
    request.set_lost_reason(lost);
    return jobs_->Heartbeat(request).status();
  }
  absl::StatusOr<v1::HeartbeatResponse> Publish(const v1::Lease& lease,
                                                const std::string& id) {
    v1::HeartbeatRequest request;
    *request.mutable_lease() = lease;
    request.set_group_id(id);
    return jobs_->Heartbeat(request);
  }
  void ExpectStale(const absl::Status& status) {
    EXPECT_THAT(status, StatusIs(StatusCode::kFailedPrecondition));
    EXPECT_EQ(ReasonOf(status), "STALE_LEASE_EPOCH");
  }
};

TEST_F(JobSeatsTest, StartsWithTheCallThatMakesTheWorkersEnough) {
  const auto job = SubmitGroup(3);
  EXPECT_TRUE(GetsNothing("w3", 2));
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job(job.name()).state_reason(), "waiting for workers: 1 of 3");
  EXPECT_TRUE(GetsNothing("w3", 2));  // one that asks again is one
  EXPECT_TRUE(GetsNothing("w1", 1));
  EXPECT_EQ(Job(job.name()).state_reason(), "waiting for workers: 2 of 3");
  const v1::Lease second = LeaseOf("w2", 4);
  EXPECT_EQ(second.job(), job.name());
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(Job(job.name()).attempt(), 1);
  EXPECT_EQ(Job(job.name()).state_reason(), "leased by workers w1, w2, w3");
  // Seats go by name. The others come for theirs.
  const v1::Lease third = LeaseOf("w3", 2);
  const v1::Lease first = LeaseOf("w1", 1);
  int seat = 0;
  for (const v1::Lease& lease : {first, second, third}) {
    EXPECT_EQ(lease.job(), job.name());
    EXPECT_EQ(lease.epoch(), first.epoch());
    EXPECT_EQ(lease.seat(), seat++);
    EXPECT_EQ(lease.seats(), 3);
    EXPECT_EQ(lease.total_ranks(), 7);
    EXPECT_EQ(lease.ttl_seconds(), kTtlSeconds);
  }
  EXPECT_THAT((std::vector<int>{first.first_rank(), second.first_rank(),
                                third.first_rank()}),
              ElementsAre(0, 1, 5));
  EXPECT_THAT((std::vector<int>{first.ranks(), second.ranks(), third.ranks()}),
              ElementsAre(1, 4, 2));
  // Each once.
  EXPECT_TRUE(GetsNothing("w2", 4));
  ASSERT_OK(Beat(first, {1}));
  ASSERT_OK(Finish(first, v1::JOB_STATE_SUCCEEDED));
  ExpectStale(Beat(second).status());
}

TEST_F(JobSeatsTest, AJobOfOneWorkerHasOneSeat) {
  SubmitGroup(1, "one", 2);
  const v1::Lease lease = LeaseOf("w1", 4);
  EXPECT_EQ(lease.seat(), 0);
  EXPECT_EQ(lease.seats(), 1);
  EXPECT_EQ(lease.ranks(), 2);  // more would have no micro-step
  EXPECT_EQ(lease.total_ranks(), 2);
  EXPECT_THAT(Publish(lease, "id"), StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(JobSeatsTest, WorkersThatDoNotAskAgainAreGone) {
  const auto job = SubmitGroup(2);
  EXPECT_TRUE(GetsNothing("w1"));
  clock_.AdvanceSeconds(3.1);
  jobs_->ExpireLeases();
  EXPECT_EQ(Job(job.name()).state_reason(), "waiting for workers: 0 of 2");
  EXPECT_TRUE(GetsNothing("w2"));
  EXPECT_EQ(LeaseOf("w1").job(), job.name());
}

TEST_F(JobSeatsTest, WorkersThatCannotJoinTakeOtherJobs) {
  const auto group = SubmitGroup(2);
  EXPECT_TRUE(GetsNothing("cpu", 0));
  EXPECT_TRUE(GetsNothing("w1"));
  EXPECT_EQ(Job(group.name()).state_reason(), "waiting for workers: 1 of 2");
  const auto other = Submit("other");
  EXPECT_EQ(LeaseOf("cpu", 0).job(), other.name());
}

TEST_F(JobSeatsTest, AGroupThatCannotBeFilledIsPassedOver) {
  SubmitGroup(2);
  const auto other = Submit("other");
  EXPECT_EQ(LeaseOf("w1").job(), other.name());
}

TEST_F(JobSeatsTest, AGroupThatCanBeFilledComesBeforeYoungerJobs) {
  const auto first = Submit("first");
  const v1::Lease busy = LeaseOf("w1");
  EXPECT_EQ(busy.job(), first.name());
  const auto group = SubmitGroup(2);
  const auto younger = Submit("younger");
  // w1 is at work and will come.
  EXPECT_TRUE(GetsNothing("w2"));
  ASSERT_OK(Finish(busy, v1::JOB_STATE_FAILED));
  EXPECT_EQ(LeaseOf("w1").job(), group.name());
  EXPECT_EQ(LeaseOf("w2").job(), group.name());
  EXPECT_EQ(LeaseOf("w3").job(), younger.name());
}

TEST_F(JobSeatsTest, TwoGroupsDoNotWaitForEachOther) {
  const auto first = SubmitGroup(2, "first");
  const auto second = SubmitGroup(2, "second");
  EXPECT_TRUE(GetsNothing("w1"));
  EXPECT_EQ(LeaseOf("w2").job(), first.name());
  EXPECT_TRUE(GetsNothing("w3"));
  const v1::Lease lease = LeaseOf("w1");
  EXPECT_EQ(lease.job(), first.name());
  EXPECT_EQ(Job(second.name()).state_reason(), "waiting for workers: 1 of 2");
  ASSERT_OK(Finish(lease, v1::JOB_STATE_SUCCEEDED));
  EXPECT_EQ(LeaseOf("w1").job(), second.name());
  EXPECT_EQ(LeaseOf("w3").job(), second.name());
}

// The older one needs more than are free; nobody starts the younger one, and
// what it waits for is said.
TEST_F(JobSeatsTest, AYoungerGroupWaitsForAnOlderOne) {
  Submit("busy");
  const v1::Lease busy = LeaseOf("w1");
  const auto older = SubmitGroup(3, "older");
  const auto younger = SubmitGroup(2, "younger");
  EXPECT_TRUE(GetsNothing("w2"));
  EXPECT_TRUE(GetsNothing("w3"));
  EXPECT_EQ(Job(older.name()).state_reason(), "waiting for workers: 2 of 3");
  EXPECT_EQ(Job(younger.name()).state_reason(),
            "waiting for workers: 2 of 2, an older job comes first");
  ASSERT_OK(Finish(busy, v1::JOB_STATE_FAILED));
  EXPECT_EQ(LeaseOf("w1").job(), older.name());
}

TEST_F(JobSeatsTest, TheLapseOfOneSeatEndsTheLeaseOfAll) {
  const auto job = SubmitGroup(2);
  const auto seats = StartGroup();
  clock_.AdvanceSeconds(kTtlSeconds - 1);
  ASSERT_OK(Beat(seats[0]));
  clock_.AdvanceSeconds(1);
  jobs_->ExpireLeases();
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job(job.name()).lost_attempts(), 1);
  EXPECT_EQ(Metric("sinklora_trainer_lease_expiries_total"), 1);
  ExpectStale(Beat(seats[0]).status());
  ExpectStale(Finish(seats[0], v1::JOB_STATE_SUCCEEDED).status());
  // Another attempt, in another epoch; the old seats stay out.
  const auto again = StartGroup();
  EXPECT_GT(again[0].epoch(), seats[0].epoch());
  EXPECT_EQ(Job(job.name()).attempt(), 2);
  ExpectStale(Beat(seats[1]).status());
  ExpectStale(Publish(seats[0], "old id").status());
  ASSERT_OK(Beat(again[0]));
  ASSERT_OK(Beat(again[1]));
}

TEST_F(JobSeatsTest, AWorkerThatNeverCameDoesNotCountAgainstTheJob) {
  const auto job = SubmitGroup(2);
  EXPECT_TRUE(GetsNothing("w1"));
  const v1::Lease lease = LeaseOf("w2");
  clock_.AdvanceSeconds(kTtlSeconds - 1);
  ASSERT_OK(Beat(lease));
  clock_.AdvanceSeconds(1);
  jobs_->ExpireLeases();
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job(job.name()).lost_attempts(), 0);
}

TEST_F(JobSeatsTest, AnySeatMayGiveTheJobBack) {
  const auto job = SubmitGroup(2);
  for (int attempt = 1; attempt <= 2 * kMaxAttempts; ++attempt) {
    const auto seats = StartGroup();
    ASSERT_OK(Release(seats[attempt % 2]));
    ASSERT_EQ(Job(job.name()).state(), v1::JOB_STATE_QUEUED);
    ExpectStale(Beat(seats[(attempt + 1) % 2]).status());
  }
  EXPECT_EQ(Job(job.name()).lost_attempts(), 0);
}

TEST_F(JobSeatsTest, LinksThatBreakAgainAndAgainFailTheJob) {
  const auto job = SubmitGroup(2);
  for (int attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    const auto seats = StartGroup();
    ASSERT_OK(Release(seats[1], "cuda:0: the link is down"));
    ExpectStale(Release(seats[0], "me too"));
  }
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Job(job.name()).error_reason(), "MAX_ATTEMPTS");
  EXPECT_THAT(Job(job.name()).state_reason(),
              HasSubstr("given up by worker w2: cuda:0: the link is down"));
  SubmitGroup(2, "other");
  v1::HeartbeatRequest request;
  *request.mutable_lease() = StartGroup()[0];
  request.set_lost_reason("but not given back");
  EXPECT_THAT(jobs_->Heartbeat(request),
              StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(JobSeatsTest, ACancelReachesAllSeats) {
  const auto job = SubmitGroup(2);
  const auto seats = StartGroup();
  v1::CancelTrainingJobRequest request;
  request.set_name(job.name());
  request.set_request_id("cancel");
  ASSERT_OK(jobs_->CancelJob(request));
  for (const v1::Lease& lease : seats) {
    ASSERT_OK_AND_ASSIGN(const auto response, Beat(lease));
    EXPECT_TRUE(response.cancel_requested());
  }
  EXPECT_THAT(Finish(seats[1], v1::JOB_STATE_CANCELLED),
              StatusIs(StatusCode::kInvalidArgument));
  ASSERT_OK(Finish(seats[0], v1::JOB_STATE_CANCELLED));
  ExpectStale(Beat(seats[1]).status());
}

TEST_F(JobSeatsTest, AJobThatWaitsIsCancelledAtOnce) {
  const auto job = SubmitGroup(2);
  EXPECT_TRUE(GetsNothing("w1"));
  v1::CancelTrainingJobRequest request;
  request.set_name(job.name());
  request.set_request_id("cancel");
  ASSERT_OK(jobs_->CancelJob(request));
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_CANCELLED);
  EXPECT_TRUE(GetsNothing("w2"));
}

TEST_F(JobSeatsTest, OnlySeatZeroSpeaksForTheJobButAnyMayFailIt) {
  const auto job = SubmitGroup(2);
  const auto seats = StartGroup();
  const auto before = Job(job.name()).SerializeAsString();
  for (const absl::Status& status :
       {Beat(seats[1], {1}).status(), Commit(seats[1], 1).status(),
        jobs_->OpenCheckpoint(seats[1]).status(),
        Finish(seats[1], v1::JOB_STATE_SUCCEEDED).status(),
        Publish(seats[1], "id").status()}) {
    EXPECT_THAT(status,
                StatusIs(StatusCode::kInvalidArgument, HasSubstr("seat is 1")));
  }
  EXPECT_EQ(Job(job.name()).SerializeAsString(), before);
  v1::Lease third = seats[1];
  third.set_seat(2);
  ExpectStale(Beat(third).status());
  ASSERT_OK(Finish(seats[1], v1::JOB_STATE_FAILED));
  EXPECT_EQ(Job(job.name()).error_reason(), "NON_FINITE_LOSS");
  // Seat 0 had the same failure.
  EXPECT_OK(Finish(seats[0], v1::JOB_STATE_FAILED));
  ExpectStale(Beat(seats[0]).status());
}

TEST_F(JobSeatsTest, TheIdOfSeatZeroReachesTheOthersInItsEpochAlone) {
  const auto job = SubmitGroup(2);
  const auto seats = StartGroup();
  EXPECT_EQ(Beat(seats[1])->group_id(), "");
  ASSERT_OK(Publish(seats[0], "an id"));
  EXPECT_EQ(Beat(seats[1])->group_id(), "an id");
  EXPECT_THAT(Publish(seats[0], std::string(257, 'x')),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("257 bytes")));
  ExpireLease();
  const auto again = StartGroup();
  EXPECT_EQ(Beat(again[1])->group_id(), "");
  ExpectStale(Publish(seats[0], "too late").status());
  EXPECT_EQ(Beat(again[1])->group_id(), "");
}

TEST_F(JobSeatsTest, ARunningGroupOutlivesARestartOfTheTrainer) {
  const auto job = SubmitGroup(2);
  const auto seats = StartGroup();
  ASSERT_OK(Publish(seats[0], "an id"));
  Reopen();
  // Each seat has a whole period anew; the id comes again with seat 0.
  clock_.AdvanceSeconds(kTtlSeconds - 1);
  EXPECT_EQ(Beat(seats[1])->group_id(), "");
  ASSERT_OK(Publish(seats[0], "an id"));
  EXPECT_EQ(Beat(seats[1])->group_id(), "an id");
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_RUNNING);
  EXPECT_TRUE(GetsNothing("w1"));
  clock_.AdvanceSeconds(kTtlSeconds - 1);
  ASSERT_OK(Beat(seats[0]));
  clock_.AdvanceSeconds(1);
  jobs_->ExpireLeases();
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_QUEUED);
  ExpectStale(Beat(seats[0]).status());
}

TEST_F(JobSeatsTest, AStartThatCannotBeWrittenLeavesTheQueueAsItWas) {
  const auto job = SubmitGroup(2);
  EXPECT_TRUE(GetsNothing("w1"));
  store_->FailWrite(1);
  EXPECT_FALSE(Ask("w2", 1).ok());
  EXPECT_EQ(Job(job.name()).state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(LeaseOf("w2").epoch(), 1);
}

TEST_F(JobSeatsTest, RefusesWhatAWorkerCannotBe) {
  v1::LeaseJobRequest request;
  request.set_worker_id("w1");
  request.set_devices(1025);
  EXPECT_THAT(jobs_->LeaseJob(request), StatusIs(StatusCode::kInvalidArgument,
                                                 HasSubstr("devices is 1025")));
}

TEST(ShareRanksTest, TheLargestLeaveSomeIdleFirst) {
  EXPECT_THAT(ShareRanks({1, 4, 2}, 7), ElementsAre(1, 4, 2));
  EXPECT_THAT(ShareRanks({4, 4}, 4), ElementsAre(2, 2));
  EXPECT_THAT(ShareRanks({8, 1, 3}, 5), ElementsAre(2, 1, 2));
  EXPECT_THAT(ShareRanks({8, 8, 8}, 3), ElementsAre(1, 1, 1));
}

}  // namespace
}  // namespace sinklora::trainer
