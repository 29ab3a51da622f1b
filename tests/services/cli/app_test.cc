// The commands against fake services: flags reach the request, answers reach
// the screen, errors become exit codes.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/rpc/status_translation.h"
#include "services/cli/exit_code.h"
#include "services/cli/output.h"
#include "services/cli/passkey_prompt.h"
#include "tests/services/cli/fake_services.h"
#include "tests/services/cli/run_cli.h"
#include "tests/testing/matchers.h"

namespace sinklora::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

using Ran = testing::CliRun;

class AppTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(dir_, TempDir::Create()); }

  Ran Run(const std::vector<std::string>& arguments,
          const std::string& in = "") {
    return testing::RunCli(server_.address, arguments, in);
  }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = JoinPath(dir_->path(), name);
    EXPECT_THAT(WriteFileAtomic(path, text), testing::IsOk());
    return path;
  }

  testing::FakeServer server_;
  std::unique_ptr<TempDir> dir_;
};

TEST_F(AppTest, HelpAndVersionSucceed) {
  EXPECT_EQ(Run({"version"}).out, "sinklora 0.1.0\n");
  EXPECT_EQ(Run({"--json", "version"}).json()["version"], "0.1.0");
  const Ran help = Run({"--help"});
  EXPECT_EQ(help.exit_code, kExitOk);
  EXPECT_THAT(help.out, HasSubstr("Exit codes"));
}

TEST_F(AppTest, EveryCommandHasAnExample) {
  const std::vector<std::vector<std::string>> commands = {
      {"dataset", "import"},
      {"dataset", "curate"},
      {"dataset", "list"},
      {"dataset", "show"},
      {"dataset", "export"},
      {"model", "import"},
      {"model", "list"},
      {"model", "show"},
      {"model", "export"},
      {"train", "submit"},
      {"train", "list"},
      {"train", "show"},
      {"train", "watch"},
      {"train", "cancel"},
      {"generate"},
      {"chat"},
      {"score"},
      {"tokenize"},
      {"eval", "perplexity"},
      {"eval", "passkey"},
      {"version"}};
  for (std::vector<std::string> command : commands) {
    command.push_back("--help");
    const Ran ran = Run(command);
    EXPECT_EQ(ran.exit_code, kExitOk) << command[0];
    EXPECT_THAT(ran.out, HasSubstr("Example:\n  sinklora " + command[0]));
  }
}

TEST_F(AppTest, WrongCommandLinesAreUsageErrors) {
  const std::vector<std::vector<std::string>> lines = {
      {},
      {"dance"},
      {"dataset"},
      {"dataset", "import", "only-a-name"},
      {"train", "submit", "--model", "m"},
      {"train", "submit", "--model", "m", "--dataset", "d", "--output", "o",
       "--steps", "1", "--pattern", "spiral"},
      {"train", "submit", "--model", "m", "--dataset", "d", "--output", "o",
       "--steps", "1", "--group-ratio", "0.5", "--group-size", "8"},
      {"generate", "--model", "m", "--prompt", "a", "--prompt-file", "b"},
      {"generate", "--model", "m", "--cache-budget-tokens", "many"}};
  for (const auto& line : lines) {
    const Ran ran = Run(line);
    EXPECT_EQ(ran.exit_code, kExitUsage);
    EXPECT_THAT(ran.err, HasSubstr("(USAGE)"));
    EXPECT_EQ(ran.out, "");
  }
}

TEST_F(AppTest, StatusesBecomeExitCodes) {
  const std::vector<std::pair<absl::StatusCode, int>> cases = {
      {absl::StatusCode::kInvalidArgument, kExitRefused},
      {absl::StatusCode::kFailedPrecondition, kExitRefused},
      {absl::StatusCode::kAlreadyExists, kExitRefused},
      {absl::StatusCode::kNotFound, kExitNotFound},
      {absl::StatusCode::kUnavailable, kExitUnavailable},
      {absl::StatusCode::kDeadlineExceeded, kExitUnavailable},
      {absl::StatusCode::kInternal, kExitInternal},
      {absl::StatusCode::kDataLoss, kExitInternal}};
  for (const auto& [code, exit_code] : cases) {
    server_.curator.status =
        ToGrpc(MakeError(code, "the message", {"THE_REASON", {{"x", "1"}}}));
    const Ran ran = Run({"dataset", "show", "d"});
    EXPECT_EQ(ran.exit_code, exit_code);
    EXPECT_THAT(ran.err, HasSubstr("error: the message (THE_REASON)"));
    const Ran json = Run({"--json", "dataset", "show", "d"});
    const Json error = Json::parse(json.err)["error"];
    EXPECT_EQ(error["reason"], "THE_REASON");
    EXPECT_EQ(error["metadata"]["x"], "1");
    EXPECT_EQ(json.out, "");
  }
}

TEST_F(AppTest, NoServerIsUnavailable) {
  // Port 1 is privileged and unused: nothing of ours listens there.
  const Ran ran = Run({"--server", "127.0.0.1:1", "model", "list"});
  EXPECT_EQ(ran.exit_code, kExitUnavailable);
  EXPECT_THAT(ran.err, HasSubstr("sinklora up"));
}

TEST_F(AppTest, DataDirSaysWhereTheServerIs) {
  server_.registry.model_names = {"a"};
  Write("endpoint.json", R"({"grpc": ")" + server_.address + R"("})");
  EXPECT_EQ(Run({"--data-dir", dir_->path(), "model", "list"}).exit_code, 0);
  EXPECT_EQ(
      Run({"--data-dir", dir_->path() + "/no", "model", "list"}).exit_code,
      kExitNotFound);
}

TEST_F(AppTest, ListsAllPages) {
  server_.registry.model_names = {"alpha", "beta", "gamma"};
  const Ran ran = Run({"model", "list"});
  EXPECT_EQ(ran.exit_code, 0);
  for (const char* name : {"alpha", "beta", "gamma"}) {
    EXPECT_THAT(ran.out, HasSubstr(name));
  }
  EXPECT_EQ(Run({"model", "list", "--json"}).json()["models"].size(), 3u);
}

TEST_F(AppTest, ImportSendsFoldersRecursively) {
  ASSERT_THAT(MakeDirs(JoinPath(dir_->path(), "docs/deep")), testing::IsOk());
  ASSERT_THAT(MakeDirs(JoinPath(dir_->path(), "docs/.git")), testing::IsOk());
  Write("docs/a.txt", "A");
  Write("docs/deep/b.txt", std::string(3 << 20, 'b'));
  Write("docs/.git/hidden.txt", "no");
  const std::string single = Write("c.jsonl", "{}");
  const Ran ran =
      Run({"dataset", "import", "books", JoinPath(dir_->path(), "docs"), single,
           "--format", "text", "--request-id", "r-1"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(
      server_.curator.files,
      UnorderedElementsAre(Pair("docs/a.txt", "A"),
                           Pair("docs/deep/b.txt", std::string(3 << 20, 'b')),
                           Pair("c.jsonl", "{}")));
  EXPECT_EQ(server_.curator.header.name(), "books");
  EXPECT_EQ(server_.curator.header.request_id(), "r-1");
  EXPECT_EQ(server_.curator.header.size().file_count(), 3);
  EXPECT_EQ(server_.curator.header.size().total_bytes(), 1 + (3 << 20) + 2);
  EXPECT_EQ(server_.curator.header.format(),
            curator::v1::SOURCE_FORMAT_PLAIN_TEXT);
}

TEST_F(AppTest, ImportReportsTheServersRefusal) {
  const std::string path = Write("big.txt", std::string(8 << 20, 'x'));
  server_.curator.status =
      grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "big.txt: line 17");
  const Ran ran = Run({"dataset", "import", "books", path});
  EXPECT_EQ(ran.exit_code, kExitRefused);
  EXPECT_THAT(ran.err, HasSubstr("line 17"));
  EXPECT_EQ(Run({"dataset", "import", "b", "/does/not/exist"}).exit_code,
            kExitNotFound);
}

TEST_F(AppTest, CurateFillsTheRecipe) {
  const Ran ran = Run({"dataset", "curate", "set", "--source", "a", "--source",
                       "b,c", "--tokenizer-model", "m", "--context", "128",
                       "--validation-fraction", "0", "--seed", "7", "--builder",
                       "packed-text", "--min-document-bytes", "10"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  const curator::v1::Recipe& recipe = server_.curator.curated.recipe();
  EXPECT_THAT(recipe.sources(), ElementsAre("a", "b", "c"));
  EXPECT_EQ(recipe.context_tokens(), 128);
  EXPECT_TRUE(recipe.has_validation_fraction());
  EXPECT_EQ(recipe.seed(), 7u);
  EXPECT_EQ(recipe.builder(), curator::v1::BUILDER_PACKED_TEXT);
  EXPECT_EQ(recipe.min_document_bytes(), 10);
  EXPECT_EQ(server_.curator.curated.request_id().size(), 36u);
}

TEST_F(AppTest, ExportAppearsWholeOrNotAtAll) {
  common::v1::FileChunk chunk;
  chunk.set_path("manifest.json");
  chunk.set_data("{}");
  chunk.set_last(true);
  chunk.set_sha256(Sha256Hex("{}"));
  server_.curator.exported = {chunk};
  const std::string target = JoinPath(dir_->path(), "out");
  EXPECT_EQ(Run({"dataset", "export", "d", target}).exit_code, 0);
  EXPECT_EQ(ReadFile(target + "/manifest.json").value_or(""), "{}");
  EXPECT_EQ(Run({"dataset", "export", "d", target}).exit_code, kExitRefused);

  server_.curator.exported[0].set_sha256(Sha256Hex("other"));
  const std::string broken = JoinPath(dir_->path(), "broken");
  EXPECT_EQ(Run({"dataset", "export", "d", broken}).exit_code, kExitInternal);
  ASSERT_OK_AND_ASSIGN(const auto left, ListFilesRecursive(dir_->path()));
  EXPECT_THAT(left, ElementsAre("out/manifest.json"));
}

TEST_F(AppTest, SubmitFillsEveryFieldOfTheSpec) {
  server_.training.job.set_name("job-1");
  const Ran ran = Run({"train",
                       "submit",
                       "--model",
                       "m",
                       "--dataset",
                       "d",
                       "--output",
                       "o",
                       "--steps",
                       "9",
                       "--mode",
                       "full",
                       "--context",
                       "2048",
                       "--pattern",
                       "s2-sinks",
                       "--group-size",
                       "64",
                       "--full-below",
                       "32",
                       "--return-ratio",
                       "0.25",
                       "--sink-tokens",
                       "2",
                       "--lora-rank",
                       "4",
                       "--lora-alpha",
                       "32",
                       "--rslora",
                       "--lora-targets",
                       "q_proj,up_proj",
                       "--freeze-embedding-and-norms",
                       "--learning-rate",
                       "0.001",
                       "--warmup-steps",
                       "0",
                       "--schedule",
                       "cosine",
                       "--min-learning-rate",
                       "0.0001",
                       "--beta1",
                       "0.8",
                       "--beta2",
                       "0.9",
                       "--eps",
                       "1e-6",
                       "--weight-decay",
                       "0.1",
                       "--clip-norm",
                       "0",
                       "--micro-batch",
                       "2",
                       "--accumulation",
                       "3",
                       "--seed",
                       "18446744073709551615",
                       "--checkpoint-every",
                       "5",
                       "--validate-every",
                       "4",
                       "--validation-examples",
                       "8",
                       "--keep-activations",
                       "--context-parallel",
                       "2",
                       "--compute",
                       "bfloat16",
                       "--workers",
                       "2",
                       "--resume-job",
                       "job-0",
                       "--request-id",
                       "r"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(ran.out, "job-1\n");
  ASSERT_EQ(server_.training.created.size(), 1u);
  EXPECT_EQ(server_.training.created[0].request_id(), "r");
  const Json spec = ToJson(server_.training.created[0].spec());
  const Json expected = Json::parse(R"({
    "base_model": "m", "dataset": "d", "output_name": "o",
    "mode": "TUNING_MODE_FULL", "context_tokens": "2048",
    "attention": {"pattern": "ATTENTION_PATTERN_S2_SINKS",
      "group_size_tokens": "64", "full_below_tokens": "32",
      "return_ratio": 0.25, "sink_tokens": "2"},
    "lora": {"rank": 4, "lora_alpha": 32.0,
      "use_rslora": true,
      "target_modules": ["q_proj", "up_proj"],
      "freeze_embedding_and_norms": true},
    "optimizer": {"learning_rate": 0.001, "warmup_steps": "0",
      "schedule": "LR_SCHEDULE_COSINE", "min_learning_rate": 0.0001,
      "beta1": 0.8, "beta2": 0.9, "eps": 1e-6, "weight_decay": 0.1,
      "clip_norm": 0.0},
    "steps": "9", "micro_batch_examples": 2, "accumulation_steps": 3,
    "seed": "18446744073709551615", "checkpoint_every_steps": "5",
    "validate_every_steps": "4", "validation_examples": "8",
    "keep_activations": true, "compute_type": "COMPUTE_TYPE_BFLOAT16",
    "resume_job": "job-0", "context_parallel": 2, "workers": 2})");
  EXPECT_EQ(Json::diff(expected, spec).dump(2), "[]");
  // A field that is added to the proto needs a flag.
  EXPECT_EQ(trainer::v1::TrainingSpec::descriptor()->field_count(), 20);
}

TEST_F(AppTest, SubmitLeavesDefaultsToTheService) {
  ASSERT_EQ(Run({"train", "submit", "--model", "m", "--dataset", "d",
                 "--output", "o", "--steps", "1"})
                .exit_code,
            0);
  const trainer::v1::TrainingSpec& spec = server_.training.created[0].spec();
  EXPECT_FALSE(spec.has_lora());
  EXPECT_FALSE(spec.optimizer().has_warmup_steps());
  EXPECT_FALSE(spec.attention().has_sink_tokens());
  EXPECT_EQ(spec.attention().group_case(),
            trainer::v1::AttentionConfig::GROUP_NOT_SET);
}

class WatchTest : public AppTest {
 protected:
  void SetUp() override {
    AppTest::SetUp();
    server_.training.job.set_name("job-1");
    server_.training.job.mutable_resolved()->set_steps(3);
    for (int64_t i = 1; i <= 4; ++i) {
      trainer::v1::JobEvent event;
      event.set_sequence(i);
      if (i == 1) {
        event.mutable_state_change()->set_state(trainer::v1::JOB_STATE_RUNNING);
      } else {
        event.mutable_metrics()->set_step(i - 1);
        event.mutable_metrics()->set_loss(4.0 / static_cast<double>(i));
        event.mutable_metrics()->set_tokens_per_second(1234);
      }
      server_.training.events.push_back(event);
    }
    server_.training.events[3].mutable_metrics()->set_validation_loss(2.5);
  }
};

TEST_F(WatchTest, PrintsEachStepAndSucceedsWithTheJob) {
  server_.training.job.set_state(trainer::v1::JOB_STATE_SUCCEEDED);
  const Ran ran = Run({"train", "watch", "job-1"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("job-1 running"));
  EXPECT_THAT(ran.out, HasSubstr("step 1/3  loss 2.0000"));
  EXPECT_THAT(ran.out, HasSubstr("validation 2.5000"));
  EXPECT_THAT(ran.out, HasSubstr("1,234 tok/s"));
}

TEST_F(WatchTest, AFailedJobHasItsOwnExitCode) {
  server_.training.job.set_state(trainer::v1::JOB_STATE_FAILED);
  server_.training.job.set_error_reason("NON_FINITE_LOSS");
  const Ran ran = Run({"train", "watch", "job-1"});
  EXPECT_EQ(ran.exit_code, kExitJobEnded);
  EXPECT_THAT(ran.err, HasSubstr("NON_FINITE_LOSS"));
  server_.training.job.set_state(trainer::v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(Run({"train", "watch", "job-1"}).exit_code, kExitJobEnded);
}

TEST_F(WatchTest, GoesOnAfterABrokenConnectionWithoutRepeating) {
  server_.training.job.set_state(trainer::v1::JOB_STATE_SUCCEEDED);
  server_.training.break_after_events = 2;
  const Ran ran = Run({"--json", "train", "watch", "job-1"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(server_.training.watched_from, ElementsAre(1, 3));
  std::istringstream lines(ran.out);
  std::vector<std::string> sequences;
  for (std::string line; std::getline(lines, line);) {
    sequences.push_back(Json::parse(line)["sequence"]);
  }
  EXPECT_THAT(sequences, ElementsAre("1", "2", "3", "4"));
}

TEST_F(AppTest, GenerateFillsTheRequestAndStreamsText) {
  const std::string prompt = Write("prompt.txt", "Once");
  const Ran ran =
      Run({"generate", "--model",         "m",    "--adapter",
           "a",        "--prompt-file",   prompt, "--max-tokens",
           "5",        "--temperature",   "0.5",  "--top-k",
           "3",        "--top-p",         "0.9",  "--seed",
           "11",       "--stop",          "x",    "--stop",
           "y",        "--cache",         "h2o",  "--cache-prompt-ratio",
           "0.2",      "--recent-tokens", "3",    "--sink-tokens",
           "1",        "--cache-storage", "int8", "--ignore-eos"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(ran.out, "ok\n");
  EXPECT_THAT(ran.err, HasSubstr("prompt tokens"));
  const Json request = ToJson(server_.inference.generated.at(0));
  const Json expected = Json::parse(R"({
    "target": {"model": "m", "adapter": "a", "context_tokens": "0"},
    "text": "Once", "max_tokens": 5, "stop": ["x", "y"],
    "sampling": {"temperature": 0.5, "top_k": 3, "top_p": 0.9, "seed": "11"},
    "cache": {"policy": "CACHE_POLICY_H2O", "prompt_ratio": 0.2,
      "recent_tokens": "3", "sink_tokens": "1",
      "storage": "CACHE_STORAGE_INT8"},
    "ignore_eos": true})");
  EXPECT_EQ(Json::diff(expected, request).dump(2), "[]");
}

TEST_F(AppTest, GenerateReadsStdinAndPrintsOneDocument) {
  const Ran ran = Run({"--json", "generate", "--model", "m"}, "From stdin");
  EXPECT_EQ(ran.json()["text"], "ok");
  EXPECT_EQ(ran.json()["token_ids"].size(), 2u);
  EXPECT_EQ(ran.json()["finished"]["finish_reason"], "FINISH_REASON_STOP");
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(server_.inference.generated.at(0).text(), "From stdin");
}

TEST_F(AppTest, TextThatIsNotUtf8IsRefusedWithItsPlace) {
  const Ran ran = Run({"generate", "--model", "m"}, "ab\xff");
  EXPECT_EQ(ran.exit_code, kExitRefused);
  EXPECT_THAT(ran.err, HasSubstr("stdin: not UTF-8"));
  EXPECT_THAT(ran.err, HasSubstr("index 2"));
}

TEST_F(AppTest, ChatKeepsTheConversation) {
  const Ran ran = Run({"chat", "--model", "m", "--chat-template", "alpaca",
                       "--system-prompt", "Be brief"},
                      "Hi\nAgain\n/reset\nNew\n/exit\nnever\n");
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  ASSERT_EQ(server_.inference.generated.size(), 3u);
  const auto& second = server_.inference.generated[1].chat();
  ASSERT_EQ(second.messages_size(), 4);
  EXPECT_EQ(second.messages(2).role(), "assistant");
  EXPECT_EQ(second.messages(2).content(), "ok");
  EXPECT_EQ(second.messages(3).content(), "Again");
  EXPECT_EQ(server_.inference.generated[2].chat().messages_size(), 2);
}

TEST_F(AppTest, StridedPerplexityScoresEachByteOnce) {
  ASSERT_THAT(MakeDirs(JoinPath(dir_->path(), "text")), testing::IsOk());
  Write("text/a.txt", std::string(200, 'a'));
  Write("text/b.txt", std::string(30, 'b'));
  const Ran ran = Run({"--json", "eval", "perplexity", "--model", "m", "--text",
                       JoinPath(dir_->path(), "text"), "--context", "64",
                       "--stride", "16"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const Json result = ran.json();
  EXPECT_EQ(result["scored_tokens"], 230);  // the begin tokens are no targets
  EXPECT_EQ(result["documents"], 2);
  EXPECT_TRUE(std::abs(result["perplexity"].get<double>() - 256) < 1e-6);
  EXPECT_TRUE(std::abs(result["bits_per_byte"].get<double>() - 8) < 1e-9);
  for (const auto& request : server_.inference.scored) {
    EXPECT_LE(request.token_ids().ids_size(), 64);
  }
}

TEST_F(AppTest, PerplexityOfTheBeginningOfEachDocument) {
  ASSERT_THAT(MakeDirs(JoinPath(dir_->path(), "text")), testing::IsOk());
  Write("text/a.txt", std::string(200, 'a'));
  Write("text/b.txt", std::string(30, 'b'));
  Write("text/c.txt", std::string(90, 'c'));
  const std::vector<std::string> line = {
      "--json", "eval", "perplexity", "--model", "m", "--text",
      JoinPath(dir_->path(), "text"), "--context", "64",
      // The begin token is one of the 41.
      "--max-document-tokens", "41"};
  const Ran each = Run(line);
  ASSERT_EQ(each.exit_code, 0) << each.err;
  EXPECT_EQ(each.json()["documents"], 3);
  EXPECT_EQ(each.json()["scored_tokens"], 40 + 30 + 40);
  auto both = line;
  both.insert(both.end(), {"--max-tokens", "82"});
  const Ran total = Run(both);
  ASSERT_EQ(total.exit_code, 0) << total.err;
  EXPECT_EQ(total.json()["documents"], 3);
  EXPECT_EQ(total.json()["scored_tokens"], 40 + 30 + 9);
  auto negative = line;
  negative.back() = "-1";
  EXPECT_EQ(Run(negative).exit_code, kExitUsage);
}

TEST_F(AppTest, WindowedPerplexityFollowsLongLora) {
  Write("a.txt", std::string(299, 'a'));
  const Ran ran = Run({"--json", "eval", "perplexity", "--model", "m", "--text",
                       JoinPath(dir_->path(), "a.txt"), "--context", "32",
                       "--stride", "64", "--protocol", "windowed"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  // Starts below 300 - 32 at 0, 64, 128, 192, 256, without the last.
  EXPECT_EQ(ran.json()["windows"], 4);
  EXPECT_EQ(ran.json()["scored_tokens"], 4 * 31);
}

TEST_F(AppTest, PerplexityRefusesWindowsThatDoNotFit) {
  const std::string path = Write("a.txt", "some text");
  EXPECT_EQ(Run({"eval", "perplexity", "--model", "m", "--text", path,
                 "--context", "65"})
                .exit_code,
            kExitUsage);
  EXPECT_EQ(Run({"eval", "perplexity", "--model", "m", "--text", path,
                 "--context", "32", "--protocol", "windowed"})
                .exit_code,
            kExitRefused);
}

TEST_F(AppTest, PasskeyCountsExactAnswers) {
  server_.inference.context_tokens = 2000;
  // Finds the key where it stands in the first half of the prompt.
  server_.inference.answer = [](const inference::v1::GenerateRequest& request) {
    const std::string mark = "The pass key is ";
    const size_t at = request.text().find(mark);
    if (at > request.text().size() / 2) return std::string(" 0");
    const size_t begin = at + mark.size();
    const size_t end = request.text().find('.', begin);
    return request.text().substr(begin - 1, end - begin + 1);
  };
  const Ran ran = Run({"--json", "eval", "passkey", "--model", "m", "--lengths",
                       "1000,1500", "--depths", "0,1", "--trials", "3"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const Json result = ran.json();
  ASSERT_EQ(result["cells"].size(), 4u);
  EXPECT_EQ(result["cells"][0]["accuracy"], 1.0);
  EXPECT_EQ(result["cells"][1]["accuracy"], 0.0);
  EXPECT_EQ(result["accuracy"], 0.5);
  for (const Json& cell : result["cells"]) {
    EXPECT_LE(cell["prompt_tokens"], cell["length_tokens"]);
    EXPECT_GE(cell["prompt_tokens"], cell["length_tokens"].get<int>() - 40);
  }
  const Ran table = Run({"eval", "passkey", "--model", "m", "--lengths", "1000",
                         "--depths", "0,1", "--trials", "1"});
  EXPECT_THAT(table.out, HasSubstr("DEPTH 0"));
  EXPECT_THAT(table.out, HasSubstr("50.0 %"));
  EXPECT_EQ(
      Run({"eval", "passkey", "--model", "m", "--lengths", "50"}).exit_code,
      kExitUsage);
}

TEST_F(AppTest, NoEscapesOutsideATerminal) {
  server_.registry.model_names = {"a"};
  EXPECT_THAT(Run({"model", "list"}).out, Not(HasSubstr("\033")));
  EXPECT_THAT(Run({"dance"}).err, Not(HasSubstr("\033")));
}

}  // namespace
}  // namespace sinklora::cli
