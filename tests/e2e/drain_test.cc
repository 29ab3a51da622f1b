// Generations whose server is told to stop, or whose client is gone.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/e2e/fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kUnavailable = 4;

class DrainTest : public ClusterTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(
        StartWithData({.parts = {Part::kTrainer, Part::kCurator}}));
    // Longer than any generation takes on a busy machine.
    ASSERT_THAT(cluster_->StartPart(Part::kInference, {"--drain-seconds=300"}),
                IsOk());
  }

  static std::vector<std::string> Generate(int max_tokens) {
    return {"generate",    "--model",      "tiny",
            "--prompt",    "In the house", "--context",
            "65536",       "--max-tokens", std::to_string(max_tokens),
            "--ignore-eos"};
  }
  // Starts a generation and waits until some of its text has arrived.
  std::unique_ptr<Process> StartGeneration(int max_tokens) {
    auto client = Process::Start(cluster_->CliArguments(Generate(max_tokens)));
    EXPECT_THAT(client, IsOk());
    if (!client.ok()) return nullptr;
    EXPECT_TRUE(WaitUntil(kPatienceSeconds, [&] {
      return !(*client)->out().empty();
    })) << (*client)->err();
    return *std::move(client);
  }
  double Inference(const std::string& name,
                   const std::vector<std::string>& labels = {}) {
    return MetricAt(cluster_->metrics_address(Part::kInference), name, labels)
        .value_or(-1);
  }
};

TEST_F(DrainTest, SigtermLetsAGenerationEnd) {
  constexpr int kTokens = 2500;
  ASSERT_OK_AND_ASSIGN(const auto whole, cluster_->Cli(Generate(kTokens)));
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const auto client = StartGeneration(kTokens);
  ASSERT_NE(client, nullptr);
  Process* server = cluster_->process(Part::kInference);
  server->Signal(SIGTERM);
  ASSERT_TRUE(WaitUntil(kPatienceSeconds, [&] {
    return server->err().find("draining") != std::string::npos;
  })) << server->err();
  EXPECT_TRUE(client->running()) << "ended before the drain began";
  // Nobody else is let in.
  ASSERT_OK_AND_ASSIGN(const auto late, cluster_->Cli(Generate(1)));
  EXPECT_EQ(late.exit_code, kUnavailable) << late.err;

  ASSERT_OK_AND_ASSIGN(const int client_code,
                       client->WaitForExit(kPatienceSeconds));
  EXPECT_EQ(client_code, 0) << client->err();
  EXPECT_EQ(client->out(), whole.out);
  EXPECT_THAT(client->err(), HasSubstr("new (length)"));
  ASSERT_OK_AND_ASSIGN(const int server_code,
                       server->WaitForExit(kPatienceSeconds));
  EXPECT_EQ(server_code, 0) << server->err();
}

TEST_F(DrainTest, KilledClientFreesItsSlot) {
  // Would go on for minutes.
  constexpr int kTokens = 60'000;
  const auto client = StartGeneration(kTokens);
  ASSERT_NE(client, nullptr);
  EXPECT_EQ(Inference("sinklora_inference_requests_running"), 1);
  EXPECT_GT(Inference("sinklora_inference_kv_resident_bytes"), 0);
  client->Kill();
  EXPECT_TRUE(WaitUntil(kPatienceSeconds, [&] {
    return Inference("sinklora_inference_finished_total",
                     {"reason=\"cancelled\""}) == 1 &&
           Inference("sinklora_inference_requests_running") == 0;
  }));
  EXPECT_EQ(Inference("sinklora_inference_kv_resident_bytes"), 0);
  EXPECT_LT(Inference("sinklora_inference_generated_tokens_total"), kTokens);
  ASSERT_OK_AND_ASSIGN(const auto next, cluster_->Cli(Generate(8)));
  EXPECT_EQ(next.exit_code, 0) << next.err;
}

}  // namespace
}  // namespace sinklora::testing
