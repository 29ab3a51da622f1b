// SPDX-License-Identifier: Apache-2.0
#include "services/worker/lease_keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/matchers.h"

namespace sinklora::worker {
namespace {

using sinklora::testing::FakeClock;
using std::chrono::milliseconds;
using ::testing::ElementsAre;

constexpr milliseconds kPatience(30'000);
constexpr double kTtlSeconds = 0.3;

// A trainer that only takes heartbeats.
class HeartbeatSink final : public Remote {
 public:
  absl::StatusOr<trainer::v1::HeartbeatResponse> Heartbeat(
      const trainer::v1::HeartbeatRequest& request, double) override {
    MutexLock lock(&mutex_);
    ++calls_;
    changed_.NotifyAll();
    while (held_) changed_.Wait(&mutex_);
    if (!answer_.ok()) return answer_;
    if (request.has_plan()) plans_.push_back(request.plan().sink_tokens());
    if (request.release()) ++releases_;
    for (const auto& metrics : request.metrics()) {
      steps_.push_back(metrics.step());
    }
    trainer::v1::HeartbeatResponse response;
    response.set_ttl_seconds(kTtlSeconds);
    response.set_cancel_requested(cancel_);
    if (!request.group_id().empty()) group_id_ = request.group_id();
    response.set_group_id(group_id_);
    lost_reason_ = request.lost_reason();
    return response;
  }
  void Answer(absl::Status status) {
    MutexLock lock(&mutex_);
    answer_ = std::move(status);
  }
  void RequestCancel() {
    MutexLock lock(&mutex_);
    cancel_ = true;
  }
  void WaitUntilCalled() {
    MutexLock lock(&mutex_);
    while (calls_ == 0) changed_.Wait(&mutex_);
  }
  void WaitForCalls(int more) {
    MutexLock lock(&mutex_);
    const int wanted = calls_ + more;
    while (calls_ < wanted) changed_.Wait(&mutex_);
  }
  // While held, calls have arrived and are not answered.
  void Hold(bool held) {
    MutexLock lock(&mutex_);
    held_ = held;
    changed_.NotifyAll();
  }
  std::vector<int64_t> steps() {
    MutexLock lock(&mutex_);
    return steps_;
  }
  int calls() {
    MutexLock lock(&mutex_);
    return calls_;
  }
  int releases() {
    MutexLock lock(&mutex_);
    return releases_;
  }
  std::string lost_reason() {
    MutexLock lock(&mutex_);
    return lost_reason_;
  }
  // As a trainer that has started anew.
  void Forget() {
    MutexLock lock(&mutex_);
    group_id_.clear();
  }
  std::vector<int64_t> plans() {
    MutexLock lock(&mutex_);
    return plans_;
  }

  absl::StatusOr<trainer::v1::LeaseJobResponse> LeaseJob(
      const trainer::v1::LeaseJobRequest&) override {
    return absl::UnimplementedError("");
  }
  absl::Status CommitCheckpoint(const trainer::v1::CommitCheckpointHeader&,
                                const std::string&,
                                const Cancellation*) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<int64_t> DownloadCheckpoint(const trainer::v1::Lease&, int64_t,
                                             const std::string&,
                                             const Cancellation*) override {
    return absl::UnimplementedError("");
  }
  absl::Status FinishJob(const trainer::v1::FinishJobHeader&,
                         const std::string&, const Cancellation*) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<registry::v1::Model> GetModel(const std::string&) override {
    return absl::UnimplementedError("");
  }
  absl::Status DownloadModel(const registry::v1::Model&, const std::string&,
                             const Cancellation*) override {
    return absl::UnimplementedError("");
  }
  absl::Status StreamExamples(
      const curator::v1::StreamExamplesRequest&, const Cancellation*,
      const std::function<
          absl::Status(const curator::v1::StreamExamplesResponse&)>&) override {
    return absl::UnimplementedError("");
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  absl::Status answer_;
  bool cancel_ = false;
  bool held_ = false;
  int releases_ = 0;
  int calls_ = 0;
  std::string group_id_;
  std::string lost_reason_;
  std::vector<int64_t> plans_;
  std::vector<int64_t> steps_;
};

class LeaseKeeperTest : public ::testing::Test {
 protected:
  LeaseKeeperTest() {
    lease_.set_job("job-1");
    lease_.set_epoch(3);
    lease_.set_ttl_seconds(kTtlSeconds);
  }
  std::unique_ptr<LeaseKeeper> Make() {
    return std::make_unique<LeaseKeeper>(&sink_, &clock_, lease_,
                                         clock_.MonotonicMicros());
  }
  static trainer::v1::TrainingMetrics Step(int64_t step) {
    trainer::v1::TrainingMetrics metrics;
    metrics.set_step(step);
    return metrics;
  }
  HeartbeatSink sink_;
  FakeClock clock_;
  trainer::v1::Lease lease_;
};

TEST_F(LeaseKeeperTest, RenewsAndCarriesMeasurementsInOrder) {
  const auto keeper = Make();
  sink_.WaitForCalls(2);
  keeper->Report(Step(1));
  keeper->Report(Step(2));
  ASSERT_OK(keeper->Flush());
  keeper->Report(Step(3));
  sink_.WaitForCalls(2);
  EXPECT_THAT(sink_.steps(), ElementsAre(1, 2, 3));
  EXPECT_EQ(keeper->cause(), StopCause::kNone);
  EXPECT_FALSE(keeper->interrupt()->cancelled());
}

TEST_F(LeaseKeeperTest, KeepsMeasurementsThroughAnOutage) {
  sink_.Answer(absl::UnavailableError("the trainer restarts"));
  const auto keeper = Make();
  keeper->Report(Step(1));
  EXPECT_FALSE(keeper->Flush().ok());
  sink_.WaitForCalls(2);
  sink_.Answer(absl::OkStatus());
  ASSERT_OK(keeper->Flush());
  EXPECT_THAT(sink_.steps(), ElementsAre(1));
  EXPECT_EQ(keeper->cause(), StopCause::kNone);
}

TEST_F(LeaseKeeperTest, APlanReportedDuringARenewalGoesOutWithTheNext) {
  trainer::v1::ResolvedPlan plan;
  plan.set_sink_tokens(1);
  sink_.Hold(true);
  const auto keeper = Make();
  keeper->ReportPlan(plan);
  sink_.WaitUntilCalled();
  // The request is on its way, with the first plan or with none.
  plan.set_sink_tokens(2);
  keeper->ReportPlan(plan);
  sink_.Hold(false);
  ASSERT_OK(keeper->Flush());
  ASSERT_FALSE(sink_.plans().empty());
  EXPECT_EQ(sink_.plans().back(), 2);
  const size_t sent = sink_.plans().size();
  ASSERT_OK(keeper->Flush());
  EXPECT_EQ(sink_.plans().size(), sent);  // and only once
}

TEST_F(LeaseKeeperTest, GivesUpAfterTwoThirdsWithoutRenewal) {
  sink_.Answer(absl::UnavailableError("the trainer is away"));
  const auto keeper = Make();
  clock_.AdvanceSeconds(kTtlSeconds / 2);
  sink_.WaitForCalls(2);
  EXPECT_EQ(keeper->cause(), StopCause::kNone);
  clock_.AdvanceSeconds(kTtlSeconds / 4);
  ASSERT_TRUE(keeper->WaitFor(StopCause::kLeaseLost, kPatience));
  EXPECT_TRUE(keeper->interrupt()->cancelled());
  EXPECT_TRUE(keeper->lost()->cancelled());
}

TEST_F(LeaseKeeperTest, StaleAnswerIsFinal) {
  sink_.Answer(MakeError(absl::StatusCode::kFailedPrecondition, "stale",
                         {"STALE_LEASE_EPOCH", {}}));
  const auto keeper = Make();
  ASSERT_TRUE(keeper->WaitFor(StopCause::kLeaseLost, kPatience));
  sink_.Answer(absl::OkStatus());
  EXPECT_TRUE(IsLeaseLost(keeper->Flush()));
}

TEST_F(LeaseKeeperTest, AReleaseCarriesMeasurementsAndIsTheLastCall) {
  const auto keeper = Make();
  keeper->Report(Step(1));
  keeper->RequestShutdown();
  ASSERT_OK(keeper->Release());
  EXPECT_THAT(sink_.steps(), ElementsAre(1));
  EXPECT_EQ(sink_.releases(), 1);
  const int calls = sink_.calls();
  EXPECT_TRUE(IsLeaseLost(keeper->Flush()));
  EXPECT_TRUE(IsLeaseLost(keeper->Release()));
  EXPECT_EQ(sink_.calls(), calls);
  EXPECT_EQ(keeper->cause(), StopCause::kShutdown);
}

TEST_F(LeaseKeeperTest, AnIdGoesOutWithEveryRenewal) {
  const auto seat_0 = Make();
  const auto seat_1 = Make();
  ASSERT_OK(seat_1->Flush());
  EXPECT_EQ(seat_1->group_id(), "");
  seat_0->PublishGroup("an id");
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK(seat_0->Flush());
    ASSERT_OK(seat_1->Flush());
    EXPECT_EQ(seat_1->group_id(), "an id");
    sink_.Forget();
  }
}

TEST_F(LeaseKeeperTest, TellsEveryCauseUntilThatIsTakenBack) {
  const auto keeper = Make();
  std::vector<StopCause> causes;
  keeper->OnStop([&](StopCause cause) { causes.push_back(cause); });
  keeper->RequestShutdown();
  keeper->RequestShutdown();
  EXPECT_THAT(causes, ElementsAre(StopCause::kShutdown));
  // A late listener hears of the last one.
  keeper->OnStop([&](StopCause cause) { causes.push_back(cause); });
  EXPECT_THAT(causes, ElementsAre(StopCause::kShutdown, StopCause::kShutdown));
  keeper->OnStop(nullptr);
  keeper->MarkLost("refused");
  EXPECT_EQ(causes.size(), 2u);
}

TEST_F(LeaseKeeperTest, AReleaseSaysWhatWasLost) {
  const auto keeper = Make();
  ASSERT_OK(keeper->Release("a link broke"));
  EXPECT_EQ(sink_.lost_reason(), "a link broke");
}

TEST_F(LeaseKeeperTest, AReleaseThatFailedLeavesTheLease) {
  sink_.Answer(absl::UnavailableError("the trainer restarts"));
  const auto keeper = Make();
  EXPECT_FALSE(keeper->Release().ok());
  sink_.Answer(absl::OkStatus());
  EXPECT_OK(keeper->Flush());
}

TEST_F(LeaseKeeperTest, CancelInterruptsButKeepsTheLease) {
  const auto keeper = Make();
  sink_.RequestCancel();
  ASSERT_TRUE(keeper->WaitFor(StopCause::kCancelRequested, kPatience));
  EXPECT_TRUE(keeper->interrupt()->cancelled());
  EXPECT_FALSE(keeper->lost()->cancelled());
  keeper->RequestShutdown();
  EXPECT_EQ(keeper->cause(), StopCause::kCancelRequested);
  sink_.WaitForCalls(1);
}

}  // namespace
}  // namespace sinklora::worker
