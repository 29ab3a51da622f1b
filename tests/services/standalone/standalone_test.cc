// The product in one process: the whole main job on a tiny model, and what is
// left after a stop.
//
// SPDX-License-Identifier: Apache-2.0
#include "services/standalone/standalone.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <ostream>
#include <regex>
#include <set>
#include <sstream>

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

struct MetricFamily {
  std::string type;
  std::set<std::string> labels;
  bool operator==(const MetricFamily&) const = default;
};
void PrintTo(const MetricFamily& family, std::ostream* os) {
  *os << family.type << " {" << ::testing::PrintToString(family.labels) << "}";
}

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
  static std::string Metrics(const Standalone& up) {
    const std::string url = up.metrics_url();
    const auto text =
        testing::HttpGet(std::stoi(url.substr(url.rfind(':') + 1)), "/metrics");
    EXPECT_THAT(text, testing::IsOk());
    return text.value_or("");
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

// What /metrics shows after the main job: each family's name, type and labels.
// Dashboards and alerts are written against this table, and the READMEs of the
// services explain it.
const std::map<std::string, MetricFamily>& Families() {
  static const auto* const families = new std::map<std::string, MetricFamily>{
      {"sinklora_build_info", {"gauge", {"version"}}},
      {"sinklora_compute_device_info",
       {"gauge", {"cuda", "cuda_graphs", "device", "part"}}},
      {"sinklora_rpc_started_total", {"counter", {"method", "service"}}},
      {"sinklora_rpc_handled_total",
       {"counter", {"code", "method", "service"}}},
      {"sinklora_rpc_duration_seconds", {"histogram", {"method", "service"}}},
      {"sinklora_rpc_in_flight", {"gauge", {"service"}}},
      {"sinklora_curator_records_total", {"counter", {"outcome", "reason"}}},
      {"sinklora_curator_source_bytes_total", {"counter", {}}},
      {"sinklora_curator_curate_duration_seconds", {"histogram", {}}},
      {"sinklora_curator_sources", {"gauge", {}}},
      {"sinklora_curator_datasets", {"gauge", {}}},
      {"sinklora_registry_models", {"gauge", {}}},
      {"sinklora_registry_adapters", {"gauge", {}}},
      {"sinklora_trainer_jobs", {"gauge", {"state"}}},
      {"sinklora_trainer_jobs_ended_total", {"counter", {"state"}}},
      {"sinklora_trainer_lease_expiries_total", {"counter", {}}},
      {"sinklora_trainer_stale_writes_rejected_total", {"counter", {}}},
      {"sinklora_trainer_checkpoints_total", {"counter", {}}},
      {"sinklora_trainer_checkpoint_bytes_total", {"counter", {}}},
      {"sinklora_worker_step_duration_seconds", {"histogram", {"worker"}}},
      {"sinklora_worker_checkpoint_duration_seconds",
       {"histogram", {"worker"}}},
      {"sinklora_worker_tokens_total", {"counter", {"worker"}}},
      {"sinklora_worker_devices", {"gauge", {"worker"}}},
      {"sinklora_worker_group_workers", {"gauge", {"worker"}}},
      {"sinklora_worker_tokens_per_second", {"gauge", {"worker"}}},
      {"sinklora_worker_loss", {"gauge", {"worker"}}},
      {"sinklora_worker_validation_loss", {"gauge", {"worker"}}},
      {"sinklora_worker_learning_rate", {"gauge", {"worker"}}},
      {"sinklora_worker_gradient_norm", {"gauge", {"worker"}}},
      {"sinklora_worker_jobs_total", {"counter", {"outcome", "worker"}}},
      {"sinklora_worker_leases_lost_total", {"counter", {"worker"}}},
      {"sinklora_inference_requests_total", {"counter", {"code", "method"}}},
      {"sinklora_inference_request_duration_seconds",
       {"histogram", {"method"}}},
      {"sinklora_inference_time_to_first_token_seconds", {"histogram", {}}},
      {"sinklora_inference_inter_token_latency_seconds", {"histogram", {}}},
      {"sinklora_inference_queue_duration_seconds", {"histogram", {}}},
      {"sinklora_inference_decode_batch_sequences", {"histogram", {}}},
      {"sinklora_inference_decode_steps_total", {"counter", {"kind"}}},
      {"sinklora_inference_requests_running", {"gauge", {}}},
      {"sinklora_inference_requests_queued", {"gauge", {}}},
      {"sinklora_inference_rejections_total", {"counter", {"reason"}}},
      {"sinklora_inference_generations_total", {"counter", {"policy"}}},
      {"sinklora_inference_finished_total", {"counter", {"reason"}}},
      {"sinklora_inference_prompt_tokens_total", {"counter", {}}},
      {"sinklora_inference_generated_tokens_total", {"counter", {}}},
      {"sinklora_inference_scored_tokens_total", {"counter", {}}},
      {"sinklora_inference_kv_resident_tokens", {"gauge", {"policy"}}},
      {"sinklora_inference_kv_resident_bytes", {"gauge", {"policy"}}},
      {"sinklora_inference_kv_evicted_tokens_total", {"counter", {"policy"}}},
      {"sinklora_inference_kv_resident_ratio", {"histogram", {}}},
      {"sinklora_inference_kv_retained_attention_mass_ratio",
       {"histogram", {}}},
      {"sinklora_inference_score_errors_total", {"counter", {}}},
      {"sinklora_inference_memory_limit_bytes", {"gauge", {}}},
      {"sinklora_inference_memory_planned_bytes", {"gauge", {}}},
      {"sinklora_inference_loaded_models", {"gauge", {}}},
      {"sinklora_inference_registry_errors_total", {"counter", {}}},
  };
  return *families;
}

// Ours in a scrape. Expects every sample of a family to have the same labels.
std::map<std::string, MetricFamily> ParseFamilies(const std::string& text) {
  static const std::regex type_line("# TYPE (sinklora_[a-z_]+) ([a-z]+)");
  static const std::regex sample("(sinklora_[a-z_]+)(\\{(.*)\\})? [^ ]+");
  static const std::regex label("([a-z_]+)=\"[^\"]*\"");
  std::map<std::string, MetricFamily> found;
  std::istringstream lines(text);
  std::string family;
  bool first = true;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    std::smatch match;
    if (std::regex_match(line, match, type_line)) {
      family = match[1];
      found[family].type = match[2];
      first = true;
    } else if (std::regex_match(line, match, sample)) {
      EXPECT_TRUE(std::string(match[1]).starts_with(family)) << line;
      const std::string text_of_labels = match[3];
      std::set<std::string> labels;
      for (std::sregex_iterator
               it(text_of_labels.begin(), text_of_labels.end(), label),
           end;
           it != end; ++it) {
        if ((*it)[1] != "le") labels.insert((*it)[1]);
      }
      if (first) found[family].labels = labels;
      EXPECT_EQ(found[family].labels, labels) << line;
      first = false;
    }
  }
  return found;
}

void CheckFamilies(const std::string& text) {
  const auto found = ParseFamilies(text);
  EXPECT_EQ(found, Families());
  for (const auto& [name, family] : found) {
    EXPECT_EQ(family.type == "counter", name.ends_with("_total")) << name;
    // Base units: seconds, bytes, and shares as ratios.
    EXPECT_FALSE(std::regex_search(
        name, std::regex("_(ms|millis|micros|kb|mb|mib|gib|percent)(_|$)")))
        << name;
    if (family.type == "histogram") {
      EXPECT_TRUE(name.ends_with("_seconds") || name.ends_with("_ratio") ||
                  name.ends_with("_sequences"))
          << name;
    }
  }
}

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
    CheckFamilies(Metrics(*up));
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
  EXPECT_THAT(Metrics(*up), AllOf(HasSubstr("200 OK"), HasSubstr("sinklora_")));
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
  options = Options();
  options.device = "cuda:0,cuda:1";
  EXPECT_THAT(Standalone::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("--device cuda:0,cuda:1"),
                             HasSubstr("--worker-device"))));
  options = Options();
  options.worker_device = "cuda:all";
  options.workers = 2;
  EXPECT_THAT(Standalone::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--workers 2: must be in [0, 1]")));
  options = Options();
  options.worker_device = "cuda:0,cpu";
  EXPECT_THAT(Standalone::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("\"cpu\" cannot be in a list")));
  options = Options();
  options.inference_memory_bytes = -1;
  EXPECT_THAT(Standalone::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--inference-memory-bytes -1")));
  options = Options();
  options.cpu_isa = "avx10";
  EXPECT_THAT(Standalone::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("cpu_isa is \"avx10\", must be one of auto")));
  options = Options();
  options.cuda_graphs = "on";
  EXPECT_THAT(
      Standalone::Create(options),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("cuda_graphs is \"on\", must be one of auto, off")));
}

}  // namespace
}  // namespace sinklora::standalone
