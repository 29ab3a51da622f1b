// The main job with every part in a process of its own, driven by the
// `sinklora` command.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>

#include "tests/e2e/fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::HasSubstr;

class MainJobTest : public ClusterTest {
 protected:
  absl::StatusOr<double> Perplexity(const std::vector<std::string>& target) {
    std::vector<std::string> arguments = {
        "eval",      "perplexity", "--text",   Scratch("text/doc-03.txt"),
        "--context", "128",        "--stride", "64"};
    arguments.insert(arguments.end(), target.begin(), target.end());
    SL_ASSIGN_OR_RETURN(const auto result, cluster_->CliJson(arguments));
    return result["perplexity"].get<double>();
  }
};

TEST_F(MainJobTest, CurateTuneEvaluateServeExport) {
  ASSERT_NO_FATAL_FAILURE(StartWithData());
  ASSERT_OK_AND_ASSIGN(const auto dataset,
                       cluster_->CliJson({"dataset", "show", "set"}));
  EXPECT_EQ(dataset["recipe"]["context_tokens"], "128");
  EXPECT_NE(dataset["counts"]["validation_examples"], "0");

  ASSERT_OK_AND_ASSIGN(const auto trained, cluster_->Cli({"train",
                                                          "submit",
                                                          "--model",
                                                          "tiny",
                                                          "--dataset",
                                                          "set",
                                                          "--output",
                                                          "tuned",
                                                          "--steps",
                                                          "30",
                                                          "--warmup-steps",
                                                          "2",
                                                          "--learning-rate",
                                                          "0.01",
                                                          "--pattern",
                                                          "sf",
                                                          "--checkpoint-every",
                                                          "10",
                                                          "--validate-every",
                                                          "10",
                                                          "--watch"}));
  ASSERT_EQ(trained.exit_code, 0) << trained.out << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("step 30/30"));
  EXPECT_THAT(trained.out, HasSubstr("validation"));
  EXPECT_THAT(trained.out, HasSubstr("checkpoint at step 20"));

  // Tuning helps, against the untuned model with the same RoPE scaling.
  ASSERT_OK_AND_ASSIGN(
      const double before,
      Perplexity({"--model", "tiny", "--serve-context", "128"}));
  ASSERT_OK_AND_ASSIGN(const double after,
                       Perplexity({"--model", "tiny", "--adapter", "tuned"}));
  EXPECT_TRUE(after < before) << after << " against " << before;

  // The merged model is the adapter's equal up to its bf16 rounding.
  ASSERT_THAT(cluster_->CliJson({"model", "export", "tuned", "--format",
                                 "merged", "--output", Scratch("merged")}),
              IsOk());
  ASSERT_THAT(
      cluster_->CliJson({"model", "import", "merged", Scratch("merged")}),
      IsOk());
  ASSERT_OK_AND_ASSIGN(const double merged, Perplexity({"--model", "merged"}));
  EXPECT_TRUE(std::abs(merged / after - 1) < 0.02) << merged << " " << after;

  const std::vector<std::string> generate = {
      "generate",      "--model", "tiny",         "--adapter", "tuned",
      "--prompt-file", "-",       "--max-tokens", "16",        "--ignore-eos"};
  ASSERT_OK_AND_ASSIGN(const auto full,
                       cluster_->Cli(generate, "In the house of the king"));
  EXPECT_EQ(full.exit_code, 0) << full.err;
  EXPECT_THAT(full.err, HasSubstr("16 new (length)"));
  std::vector<std::string> h2o = generate;
  h2o.insert(h2o.end(), {"--cache", "h2o", "--cache-prompt-ratio", "0.5"});
  ASSERT_OK_AND_ASSIGN(const auto compressed,
                       cluster_->Cli(h2o, "In the house of the king"));
  EXPECT_EQ(compressed.exit_code, 0) << compressed.err;
  EXPECT_THAT(compressed.err, HasSubstr("cache h2o"));

  ASSERT_OK_AND_ASSIGN(
      const auto passkey,
      cluster_->CliJson({"eval", "passkey", "--model", "tiny",
                         "--serve-context", "512", "--lengths", "400",
                         "--depths", "0.5", "--trials", "1"}));
  EXPECT_EQ(passkey["cells"].size(), 1u);

  ASSERT_OK_AND_ASSIGN(
      const auto exported,
      cluster_->CliJson({"dataset", "export", "set", Scratch("exported-set")}));
  EXPECT_GE(exported["files"], 4);
}

TEST_F(MainJobTest, TwoWorkersRunEachJobOnce) {
  constexpr int64_t kSteps = 300;
  const auto steps = [](const std::string& metrics_address) {
    return MetricAt(metrics_address,
                    "sinklora_worker_step_duration_seconds_count")
        .value_or(-1);
  };
  ASSERT_NO_FATAL_FAILURE(StartWithData(
      {.lease_ttl_seconds = 300,
       .parts = {Part::kTrainer, Part::kCurator, Part::kWorker}}));
  const std::string first_worker = cluster_->metrics_address(Part::kWorker);
  // The first worker stands still in the middle of its job, and so the other
  // one must do the second.
  ASSERT_OK_AND_ASSIGN(const std::string one, Submit("one", kSteps, 0));
  ASSERT_TRUE(
      WaitUntil(kPatienceSeconds, [&] { return steps(first_worker) > 0; }));
  cluster_->process(Part::kWorker)->Signal(SIGSTOP);
  ASSERT_THAT(cluster_->StartSecondWorker(), IsOk());
  const std::string second_worker = cluster_->second_worker_metrics_address();
  ASSERT_OK_AND_ASSIGN(const std::string two, Submit("two", kSteps, 0));
  ASSERT_OK_AND_ASSIGN(const auto second_job, WaitForSuccess(two));
  EXPECT_EQ(second_job["attempt"], 1) << second_job.dump();
  ASSERT_OK_AND_ASSIGN(const auto waiting, Job(one));
  EXPECT_EQ(waiting["state"], "JOB_STATE_RUNNING") << "ended before the stop";
  cluster_->process(Part::kWorker)->Signal(SIGCONT);
  ASSERT_OK_AND_ASSIGN(const auto first_job, WaitForSuccess(one));
  EXPECT_EQ(first_job["attempt"], 1) << first_job.dump();
  // Each did one job, every step of it once.
  EXPECT_EQ(steps(first_worker), kSteps);
  EXPECT_EQ(steps(second_worker), kSteps);
  // The same spec and seed, so the same bytes.
  ASSERT_OK_AND_ASSIGN(const auto first, Export("one"));
  ASSERT_OK_AND_ASSIGN(const auto second, Export("two"));
  EXPECT_TRUE(first == second);
}

TEST_F(MainJobTest, CancelLeavesACheckpointToResumeFrom) {
  ASSERT_NO_FATAL_FAILURE(StartWithData());
  ASSERT_OK_AND_ASSIGN(const std::string cut, Submit("cut", 100'000, 5));
  ASSERT_THAT(WaitForFirstCheckpoint(), IsOk());
  ASSERT_THAT(cluster_->CliJson({"train", "cancel", cut}), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto cancelled,
                       WaitForJob(cut, [](const nlohmann::json& job) {
                         return job["state"] == "JOB_STATE_CANCELLED";
                       }));
  const std::string left = cancelled["checkpoint_step"];
  ASSERT_GE(std::stoll(left), 5);
  // A job that has ended cannot be cancelled again.
  ASSERT_OK_AND_ASSIGN(const auto again,
                       cluster_->Cli({"train", "cancel", cut}));
  EXPECT_EQ(again.exit_code, 2);
  ASSERT_OK_AND_ASSIGN(const auto watched,
                       cluster_->Cli({"train", "watch", cut}));
  EXPECT_EQ(watched.exit_code, 5);
  EXPECT_THAT(watched.out, HasSubstr("cancelled"));

  // Resumed, it ends as if it had never stopped.
  const int64_t steps = std::stoll(left) + 15;
  ASSERT_OK_AND_ASSIGN(const std::string resumed,
                       Submit("resumed", steps, 0, {"--resume-job", cut}));
  ASSERT_OK_AND_ASSIGN(const std::string whole, Submit("whole", steps, 0));
  ASSERT_THAT(WaitForSuccess(resumed), IsOk());
  ASSERT_THAT(WaitForSuccess(whole), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto resumed_files, Export("resumed"));
  ASSERT_OK_AND_ASSIGN(const auto whole_files, Export("whole"));
  EXPECT_TRUE(resumed_files == whole_files);
}

TEST_F(MainJobTest, CtrlCEndsAWatchAndNotTheJob) {
  ASSERT_NO_FATAL_FAILURE(StartWithData());
  ASSERT_OK_AND_ASSIGN(const std::string name, Submit("long", 100'000, 5));
  ASSERT_OK_AND_ASSIGN(
      const auto watch,
      Process::Start(cluster_->CliArguments({"train", "watch", name})));
  ASSERT_THAT(watch->WaitForLine("step", kPatienceSeconds), IsOk());
  watch->Signal(SIGINT);
  ASSERT_OK_AND_ASSIGN(const int code, watch->WaitForExit(kPatienceSeconds));
  EXPECT_EQ(code, 130);
  EXPECT_THAT(watch->err(), HasSubstr("goes on"));
  ASSERT_OK_AND_ASSIGN(const auto job, Job(name));
  EXPECT_EQ(job["state"], "JOB_STATE_RUNNING");
}

}  // namespace
}  // namespace sinklora::testing
