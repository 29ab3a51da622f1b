// Services that die while in use lose nothing they acknowledged, and calls
// repeated with the same request id do their work once.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/e2e/fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

constexpr int kUnavailable = 4;

class RestartTest : public ClusterTest {
 protected:
  void Start(const std::vector<Part>& parts) {
    ASSERT_NO_FATAL_FAILURE(
        StartWithData({.lease_ttl_seconds = 2, .parts = parts}));
  }
};

TEST_F(RestartTest, TrainerKilledWhileAJobRuns) {
  // The worker comes last, so that nothing ends before the kill.
  ASSERT_NO_FATAL_FAILURE(Start({Part::kTrainer, Part::kCurator}));
  ASSERT_OK_AND_ASSIGN(const std::string running, Submit("running", 300, 20));
  ASSERT_OK_AND_ASSIGN(
      const std::string queued,
      Submit("queued", 5, 0, {"--request-id", "the-same-request"}));
  ASSERT_OK_AND_ASSIGN(
      const auto watch,
      Process::Start(cluster_->CliArguments({"train", "watch", running})));
  ASSERT_THAT(cluster_->StartPart(Part::kWorker), IsOk());
  ASSERT_THAT(WaitForFirstCheckpoint(), IsOk());
  cluster_->KillPart(Part::kTrainer);
  ASSERT_OK_AND_ASSIGN(const auto down, cluster_->Cli({"train", "list"}));
  EXPECT_EQ(down.exit_code, kUnavailable) << down.err;
  ASSERT_THAT(cluster_->StartPart(Part::kTrainer), IsOk());

  // The client that got no answer repeats its request.
  ASSERT_OK_AND_ASSIGN(
      const std::string repeated,
      Submit("queued", 5, 0, {"--request-id", "the-same-request"}));
  EXPECT_EQ(repeated, queued);
  ASSERT_OK_AND_ASSIGN(const auto jobs, cluster_->CliJson({"train", "list"}));
  EXPECT_EQ(jobs["jobs"].size(), 2u);
  EXPECT_THAT(WaitForSuccess(running), IsOk());
  EXPECT_THAT(WaitForSuccess(queued), IsOk());
  // The watch saw the restart through.
  ASSERT_OK_AND_ASSIGN(const int code, watch->WaitForExit(kJobSeconds));
  EXPECT_EQ(code, 0) << watch->out() << watch->err();
  ASSERT_OK_AND_ASSIGN(const auto models, cluster_->CliJson({"model", "list"}));
  EXPECT_EQ(models["models"].size(), 1u);
  EXPECT_EQ(models["adapters"].size(), 2u);
}

TEST_F(RestartTest, CuratorKilledWhileAJobRuns) {
  ASSERT_NO_FATAL_FAILURE(
      Start({Part::kTrainer, Part::kCurator, Part::kWorker}));
  const std::vector<std::string> show = {"dataset", "show", "set"};
  ASSERT_OK_AND_ASSIGN(const auto before, cluster_->CliJson(show));
  ASSERT_OK_AND_ASSIGN(const std::string job, Submit("steady", 300, 20));
  ASSERT_THAT(WaitForFirstCheckpoint(), IsOk());
  cluster_->KillPart(Part::kCurator);
  ASSERT_OK_AND_ASSIGN(const auto running, Job(job));
  ASSERT_EQ(running["state"], "JOB_STATE_RUNNING") << "ended before the kill";
  ASSERT_OK_AND_ASSIGN(const auto down, cluster_->Cli(show));
  EXPECT_EQ(down.exit_code, kUnavailable) << down.err;
  ASSERT_THAT(cluster_->StartPart(Part::kCurator), IsOk());
  EXPECT_THAT(WaitForSuccess(job), IsOk());
  // The dataset is what it was, and a job that begins now can read it.
  ASSERT_OK_AND_ASSIGN(const auto after, cluster_->CliJson(show));
  EXPECT_EQ(after, before);
  ASSERT_OK_AND_ASSIGN(const std::string later, Submit("later", 5, 0));
  EXPECT_THAT(WaitForSuccess(later), IsOk());
}

TEST_F(RestartTest, InferenceKilledWhileItGenerates) {
  ASSERT_NO_FATAL_FAILURE(
      Start({Part::kTrainer, Part::kCurator, Part::kInference}));
  const std::vector<std::string> greedy = {
      "generate", "--model",      "tiny", "--prompt",
      "In the",   "--max-tokens", "12",   "--ignore-eos"};
  ASSERT_OK_AND_ASSIGN(const auto before, cluster_->CliJson(greedy));
  ASSERT_OK_AND_ASSIGN(
      const auto generating,
      Process::Start(cluster_->CliArguments(
          {"generate", "--model", "tiny", "--prompt", "In the", "--context",
           "65536", "--max-tokens", "60000", "--ignore-eos"})));
  ASSERT_TRUE(WaitUntil(kPatienceSeconds, [&] {
    return !generating->out().empty();
  })) << generating->err();
  cluster_->KillPart(Part::kInference);
  ASSERT_OK_AND_ASSIGN(const int code,
                       generating->WaitForExit(kPatienceSeconds));
  EXPECT_EQ(code, kUnavailable) << generating->err();
  ASSERT_THAT(cluster_->StartPart(Part::kInference), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto after, cluster_->CliJson(greedy));
  EXPECT_EQ(after["token_ids"], before["token_ids"]);
}

TEST_F(RestartTest, SigtermEndsEachPartWithZero) {
  ASSERT_NO_FATAL_FAILURE(Start({std::begin(kAllParts), std::end(kAllParts)}));
  ASSERT_OK_AND_ASSIGN(const std::string job,
                       Submit("interrupted", 100'000, 5));
  ASSERT_THAT(WaitForFirstCheckpoint(), IsOk());
  for (const Part part :
       {Part::kInference, Part::kWorker, Part::kCurator, Part::kTrainer}) {
    Process* process = cluster_->process(part);
    process->Signal(SIGTERM);
    ASSERT_OK_AND_ASSIGN(const int code,
                         process->WaitForExit(kPatienceSeconds));
    EXPECT_EQ(code, 0) << PartName(part) << ": " << process->err();
  }
}

}  // namespace
}  // namespace sinklora::testing
