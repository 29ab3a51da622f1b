// The product in one process: the whole main job on a tiny model, and what is
// left after a stop.
//
// SPDX-License-Identifier: Apache-2.0
#include "services/standalone/standalone.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/base/files.h"
#include "tests/e2e/inputs.h"
#include "tests/services/cli/run_cli.h"
#include "tests/testing/http_get.h"
#include "tests/testing/matchers.h"

namespace sinklora::standalone {
namespace {

using ::testing::AllOf;
using testing::CliRun;
using ::testing::HasSubstr;
using testing::RunCli;
using testing::StatusIs;

class StandaloneTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(dir_, TempDir::Create()); }

  std::string Path(const std::string& name) const {
    return JoinPath(dir_->path(), name);
  }
  StandaloneOptions Options() const {
    return {.data_dir = Path("data"),
            .listen = "127.0.0.1:0",
            .metrics_listen = "127.0.0.1:0",
            .device = "cpu"};
  }
  // Runs a command that must succeed and returns its JSON document.
  nlohmann::ordered_json Cli(const Standalone& up,
                             std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "--json");
    const CliRun run = RunCli(up.address(), arguments);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return run.json();
  }

  std::unique_ptr<TempDir> dir_;
};

TEST_F(StandaloneTest, RunsTheMainJobAndKeepsItsResult) {
  ASSERT_THAT(testing::WriteTextDocuments(Path("text"), 12), testing::IsOk());
  ASSERT_THAT(testing::WriteSmallModel(Path("model")), testing::IsOk());
  std::string tuned_text;
  const std::vector<std::string> generate = {
      "generate", "--model",      "tiny",         "--adapter", "tuned",
      "--prompt", "In the house", "--max-tokens", "8"};
  {
    ASSERT_OK_AND_ASSIGN(const auto up, Standalone::Create(Options()));
    Cli(*up, {"model", "import", "tiny", Path("model")});
    Cli(*up, {"dataset", "import", "text", Path("text")});
    const auto dataset =
        Cli(*up, {"dataset", "curate", "set", "--source", "text",
                  "--tokenizer-model", "tiny", "--context", "128",
                  "--validation-fraction", "0.25"});
    EXPECT_NE(dataset["counts"]["train_examples"], "0");
    const CliRun trained =
        RunCli(up->address(),
               {"train", "submit", "--model", "tiny", "--dataset", "set",
                "--output", "tuned", "--steps", "4", "--checkpoint-every", "2",
                "--warmup-steps", "0", "--learning-rate", "0.001", "--watch"});
    ASSERT_EQ(trained.exit_code, 0) << trained.out << trained.err;
    EXPECT_THAT(trained.out, AllOf(HasSubstr("step 4/4"),
                                   HasSubstr("checkpoint at step 2")));
    const auto answer = Cli(*up, generate);
    tuned_text = answer["text"];
    EXPECT_EQ(answer["started"]["context_tokens"], "128");
    const auto compressed = Cli(
        *up, {"generate", "--model", "tiny", "--adapter", "tuned", "--prompt",
              "In the house of the king there was a table", "--max-tokens", "8",
              "--cache", "h2o", "--cache-budget-tokens", "8"});
    EXPECT_EQ(compressed["finished"]["usage"]["resident_tokens"], "8");
    up->Stop(10);
  }
  EXPECT_FALSE(FileExists(Path("data/endpoint.json")));
  ASSERT_OK_AND_ASSIGN(const auto again, Standalone::Create(Options()));
  EXPECT_EQ(Cli(*again, {"model", "list"})["adapters"][0]["name"], "tuned");
  EXPECT_EQ(Cli(*again, {"train", "list"})["jobs"][0]["state"],
            "JOB_STATE_SUCCEEDED");
  EXPECT_EQ(Cli(*again, generate)["text"], tuned_text);
}

TEST_F(StandaloneTest, AnnouncesItself) {
  ASSERT_OK_AND_ASSIGN(const auto up, Standalone::Create(Options()));
  ASSERT_OK_AND_ASSIGN(const std::string text,
                       ReadFile(Path("data/endpoint.json")));
  const auto endpoint = nlohmann::json::parse(text);
  EXPECT_EQ(endpoint["grpc"], up->address());
  EXPECT_EQ(endpoint["metrics"], up->metrics_url());
  EXPECT_EQ(endpoint["pid"], getpid());
  const std::string url = up->metrics_url();
  const int port = std::stoi(url.substr(url.rfind(':') + 1));
  ASSERT_OK_AND_ASSIGN(const std::string metrics,
                       testing::HttpGet(port, "/metrics"));
  EXPECT_THAT(metrics, AllOf(HasSubstr("200 OK"), HasSubstr("sinklora_")));
}

TEST_F(StandaloneTest, TheDataDirectoryHasOneUser) {
  ASSERT_OK_AND_ASSIGN(auto up, Standalone::Create(Options()));
  EXPECT_THAT(
      Standalone::Create(Options()),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("in use by process " + std::to_string(getpid()))));
  // The refused one touched nothing of the running one.
  EXPECT_TRUE(FileExists(Path("data/endpoint.json")));
  up.reset();
  EXPECT_THAT(Standalone::Create(Options()), testing::IsOk());
}

TEST_F(StandaloneTest, RefusesWrongOptions) {
  StandaloneOptions options = Options();
  options.data_dir.clear();
  EXPECT_THAT(Standalone::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument));
  options = Options();
  options.workers = 65;
  EXPECT_THAT(
      Standalone::Create(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("[0, 64]")));
  options = Options();
  options.metrics_listen = "0.0.0.0:0";
  EXPECT_THAT(Standalone::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument));
  options = Options();
  options.device = "abacus";
  EXPECT_FALSE(Standalone::Create(options).ok());
}

}  // namespace
}  // namespace sinklora::standalone
