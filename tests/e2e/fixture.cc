// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/fixture.h"

#include <algorithm>
#include <sstream>

#include "common/base/status.h"
#include "tests/e2e/inputs.h"
#include "tests/testing/http_get.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

constexpr char kCheckpoints[] = "sinklora_trainer_checkpoints_total";

bool HasEnded(const nlohmann::json& job) {
  const std::string state = job["state"];
  return state == "JOB_STATE_SUCCEEDED" || state == "JOB_STATE_FAILED" ||
         state == "JOB_STATE_CANCELLED";
}

}  // namespace

absl::StatusOr<std::string> HttpBody(const std::string& address,
                                     const std::string& path) {
  const int port = std::stoi(address.substr(address.rfind(':') + 1));
  SL_ASSIGN_OR_RETURN(const std::string response, HttpGet(port, path));
  if (response.find(" 200 OK") == std::string::npos) {
    return absl::UnavailableError(response.substr(0, response.find('\r')));
  }
  return response.substr(response.find("\r\n\r\n") + 4);
}

absl::StatusOr<std::string> ClusterTest::Metrics(Part part) const {
  return HttpBody(cluster_->metrics_address(part), "/metrics");
}

absl::StatusOr<double> ClusterTest::Metric(Part part,
                                           const std::string& name) const {
  return MetricAt(cluster_->metrics_address(part), name);
}

absl::StatusOr<double> ClusterTest::MetricAt(
    const std::string& metrics_address, const std::string& name,
    const std::vector<std::string>& labels) {
  SL_ASSIGN_OR_RETURN(const std::string text,
                      HttpBody(metrics_address, "/metrics"));
  double sum = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.substr(0, line.find_first_of("{ ")) != name) continue;
    const bool wanted = std::all_of(
        labels.begin(), labels.end(), [&line](const std::string& label) {
          return line.find(label) != std::string::npos;
        });
    if (wanted) sum += std::stod(line.substr(line.rfind(' ')));
  }
  return sum;
}

std::string ClusterTest::Scratch(const std::string& name) const {
  return JoinPath(cluster_->scratch(), name);
}

std::vector<std::string> ClusterTest::FilesOf(
    Part part, const std::string& directory) const {
  const auto files =
      ListFilesRecursive(JoinPath(cluster_->data_dir(part), directory));
  EXPECT_THAT(files, IsOk());
  return files.value_or(std::vector<std::string>());
}

void ClusterTest::StartWithData(const Cluster::Options& options) {
  ASSERT_OK_AND_ASSIGN(cluster_, Cluster::Start(options));
  AddData();
}

void ClusterTest::AddData() {
  ASSERT_THAT(WriteTextDocuments(Scratch("text"), 16), IsOk());
  ASSERT_THAT(WriteSmallModel(Scratch("model")), IsOk());
  ASSERT_THAT(cluster_->CliJson({"model", "import", "tiny", Scratch("model")}),
              IsOk());
  ASSERT_THAT(cluster_->CliJson({"dataset", "import", "text", Scratch("text")}),
              IsOk());
  ASSERT_THAT(cluster_->CliJson({"dataset", "curate", "set", "--source", "text",
                                 "--tokenizer-model", "tiny", "--context",
                                 "128", "--validation-fraction", "0.25"}),
              IsOk());
}

std::vector<std::string> ClusterTest::SubmitArguments(
    const std::string& output, int64_t steps, int64_t checkpoint_every) {
  return {"train",
          "submit",
          "--model",
          "tiny",
          "--dataset",
          "set",
          "--output",
          output,
          "--steps",
          std::to_string(steps),
          "--warmup-steps",
          "2",
          "--learning-rate",
          "0.001",
          "--checkpoint-every",
          std::to_string(checkpoint_every)};
}

absl::StatusOr<std::string> ClusterTest::Submit(
    const std::string& output, int64_t steps, int64_t checkpoint_every,
    const std::vector<std::string>& more) {
  std::vector<std::string> arguments =
      SubmitArguments(output, steps, checkpoint_every);
  arguments.insert(arguments.end(), more.begin(), more.end());
  SL_ASSIGN_OR_RETURN(checkpoints_before_submit_,
                      Metric(Part::kTrainer, kCheckpoints));
  SL_ASSIGN_OR_RETURN(const nlohmann::json job, cluster_->CliJson(arguments));
  return job["name"].get<std::string>();
}

absl::StatusOr<nlohmann::json> ClusterTest::Job(const std::string& name) {
  return cluster_->CliJson({"train", "show", name});
}

absl::StatusOr<nlohmann::json> ClusterTest::WaitForJob(
    const std::string& name,
    const std::function<bool(const nlohmann::json&)>& condition) {
  absl::StatusOr<nlohmann::json> job;
  const bool found = WaitUntil(kJobSeconds, [&] {
    job = Job(name);
    return !job.ok() || condition(*job) || HasEnded(*job);
  });
  if (!job.ok()) return job.status();
  if (found && condition(*job)) return job;
  return absl::FailedPreconditionError("the job is not as awaited: " +
                                       job->dump());
}

absl::StatusOr<nlohmann::json> ClusterTest::WaitForSuccess(
    const std::string& name) {
  return WaitForJob(name, [](const nlohmann::json& job) {
    return job["state"] == "JOB_STATE_SUCCEEDED";
  });
}

absl::Status ClusterTest::WaitForFirstCheckpoint() {
  absl::StatusOr<double> count;
  const bool found = WaitUntil(kJobSeconds, [&] {
    count = Metric(Part::kTrainer, kCheckpoints);
    return !count.ok() || *count > checkpoints_before_submit_;
  });
  SL_RETURN_IF_ERROR(count.status());
  if (found) return absl::OkStatus();
  return absl::DeadlineExceededError("no checkpoint was committed");
}

absl::StatusOr<std::map<std::string, std::string>> ClusterTest::Export(
    const std::string& adapter) {
  const std::string directory = Scratch("export-" + adapter);
  SL_RETURN_IF_ERROR(
      cluster_->CliJson({"model", "export", adapter, "--output", directory})
          .status());
  SL_ASSIGN_OR_RETURN(const auto files, ListFilesRecursive(directory));
  std::map<std::string, std::string> content;
  for (const std::string& file : files) {
    SL_ASSIGN_OR_RETURN(content[file], ReadFile(JoinPath(directory, file)));
  }
  return content;
}

}  // namespace sinklora::testing
