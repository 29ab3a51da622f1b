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
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(StartWithData({.lease_ttl_seconds = 2}));
  }
};

TEST_F(RestartTest, TrainerKilledWhileAJobRuns) {
  ASSERT_OK_AND_ASSIGN(const std::string running, Submit("running", 300, 20));
  ASSERT_OK_AND_ASSIGN(
      const std::string queued,
      Submit("queued", 5, 0, {"--request-id", "the-same-request"}));
  ASSERT_OK_AND_ASSIGN(
      const auto watch,
      Process::Start(cluster_->CliArguments({"train", "watch", running})));
  ASSERT_THAT(WaitForCheckpoint(running, 20), IsOk());
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

TEST_F(RestartTest, CuratorKilledWhileAnImportRuns) {
  // Big enough that the kill comes somewhere in it, wherever that is.
  std::string text;
  for (int i = 0; text.size() < (size_t{24} << 20); ++i) {
    text += "Line " + std::to_string(i) + " of a long document.\n";
  }
  ASSERT_THAT(WriteFileAtomic(Scratch("big.txt"), text), IsOk());
  const std::vector<std::string> import = {"--request-id", "import-1",
                                           "dataset",      "import",
                                           "big",          Scratch("big.txt")};
  ASSERT_OK_AND_ASSIGN(const auto importing,
                       Process::Start(cluster_->CliArguments(import)));
  cluster_->KillPart(Part::kCurator);
  ASSERT_OK_AND_ASSIGN(const int code,
                       importing->WaitForExit(kPatienceSeconds));
  EXPECT_THAT(code, ::testing::AnyOf(0, kUnavailable)) << importing->err();
  ASSERT_OK_AND_ASSIGN(const auto down,
                       cluster_->Cli({"dataset", "show", "set"}));
  EXPECT_EQ(down.exit_code, kUnavailable);
  ASSERT_THAT(cluster_->StartPart(Part::kCurator), IsOk());

  EXPECT_THAT(cluster_->CliJson({"dataset", "show", "set"}), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto first, cluster_->CliJson(import));
  EXPECT_EQ(first["record_count"], "1");
  ASSERT_OK_AND_ASSIGN(const auto second, cluster_->CliJson(import));
  EXPECT_EQ(first, second);
  // What was there before is usable: a new dataset from the old source has the
  // old content.
  ASSERT_OK_AND_ASSIGN(const auto old,
                       cluster_->CliJson({"dataset", "show", "set"}));
  ASSERT_OK_AND_ASSIGN(
      const auto rebuilt,
      cluster_->CliJson({"dataset", "curate", "set-again", "--source", "text",
                         "--tokenizer-model", "tiny", "--context", "128",
                         "--validation-fraction", "0.25"}));
  EXPECT_EQ(rebuilt["counts"], old["counts"]);
  ASSERT_OK_AND_ASSIGN(const std::string job, Submit("after", 5, 0));
  EXPECT_THAT(WaitForSuccess(job), IsOk());
}

TEST_F(RestartTest, CuratorKilledWhileAJobRuns) {
  ASSERT_OK_AND_ASSIGN(const std::string job, Submit("steady", 300, 20));
  ASSERT_THAT(WaitForCheckpoint(job, 20), IsOk());
  cluster_->KillPart(Part::kCurator);
  ASSERT_THAT(cluster_->StartPart(Part::kCurator), IsOk());
  EXPECT_THAT(WaitForSuccess(job), IsOk());
}

TEST_F(RestartTest, InferenceKilledWhileItGenerates) {
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
  ASSERT_OK_AND_ASSIGN(const std::string job,
                       Submit("interrupted", 100'000, 5));
  ASSERT_THAT(WaitForCheckpoint(job, 5), IsOk());
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
