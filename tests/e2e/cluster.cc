// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/cluster.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/status.h"

namespace sinklora::testing {
namespace {

// Results do not depend on it. Threads that wait for each other crawl on a
// machine that has fewer free cores.
constexpr char kThreads[] = "--threads=1";

}  // namespace

const char* PartName(Part part) {
  switch (part) {
    case Part::kTrainer:
      return "trainer";
    case Part::kCurator:
      return "curator";
    case Part::kWorker:
      return "worker";
    case Part::kInference:
      return "inference";
  }
  return "";
}

absl::StatusOr<std::vector<std::string>> Cluster::CommandLine(Part part) const {
  const std::string name = PartName(part);
  SL_ASSIGN_OR_RETURN(const std::string path, ProgramPath("sinklora-" + name));
  const std::string data = data_dir(part);
  const std::string& trainer = addresses_.at(Part::kTrainer);
  const std::string& curator = addresses_.at(Part::kCurator);
  std::vector<std::string> arguments = {
      path, "--listen=" + addresses_.at(part),
      "--metrics-listen=" + metrics_addresses_.at(part)};
  switch (part) {
    case Part::kTrainer:
      arguments.insert(
          arguments.end(),
          {"--data-dir=" + data, "--curator=" + curator,
           fmt::format("--lease-ttl-seconds={}", options_.lease_ttl_seconds)});
      break;
    case Part::kCurator:
      arguments.insert(arguments.end(),
                       {"--data-dir=" + data, "--registry=" + trainer});
      break;
    case Part::kWorker:
      arguments.insert(arguments.end(),
                       {"--cache-dir=" + data, "--trainer=" + trainer,
                        "--curator=" + curator, "--worker-id=e2e", kThreads});
      break;
    case Part::kInference:
      arguments.insert(arguments.end(), {"--cache-dir=" + data,
                                         "--registry=" + trainer, kThreads});
      break;
  }
  return arguments;
}

absl::StatusOr<std::unique_ptr<Cluster>> Cluster::Start(
    const Options& options) {
  SL_ASSIGN_OR_RETURN(std::unique_ptr<TempDir> dir, TempDir::Create());
  std::unique_ptr<Cluster> cluster(new Cluster(options, std::move(dir)));
  SL_ASSIGN_OR_RETURN(cluster->cli_path_, ProgramPath("sinklora"));
  for (const Part part : kAllParts) {
    SL_ASSIGN_OR_RETURN(const int port, FreePort());
    SL_ASSIGN_OR_RETURN(const int metrics_port, FreePort());
    cluster->addresses_[part] = fmt::format("127.0.0.1:{}", port);
    cluster->metrics_addresses_[part] =
        fmt::format("127.0.0.1:{}", metrics_port);
  }
  // None needs another one to start.
  for (const Part part : options.parts) {
    SL_RETURN_IF_ERROR(cluster->Spawn(part, {}));
  }
  for (const Part part : options.parts) {
    SL_RETURN_IF_ERROR(cluster->WaitUntilServing(part));
  }
  return cluster;
}

absl::Status Cluster::StartPart(Part part,
                                const std::vector<std::string>& more_flags) {
  SL_RETURN_IF_ERROR(Spawn(part, more_flags));
  return WaitUntilServing(part);
}

absl::Status Cluster::Spawn(Part part,
                            const std::vector<std::string>& more_flags) {
  SL_ASSIGN_OR_RETURN(auto arguments, CommandLine(part));
  arguments.insert(arguments.end(), more_flags.begin(), more_flags.end());
  SL_ASSIGN_OR_RETURN(processes_[part], Process::Start(arguments));
  return absl::OkStatus();
}

absl::Status Cluster::WaitUntilServing(Part part) {
  const std::string expected =
      fmt::format("listening on {}, metrics http://{}/metrics",
                  addresses_.at(part), metrics_addresses_.at(part));
  return processes_[part]->WaitForLine(expected, kPatienceSeconds).status();
}

absl::Status Cluster::StartSecondWorker() {
  SL_ASSIGN_OR_RETURN(const std::string path, ProgramPath("sinklora-worker"));
  SL_ASSIGN_OR_RETURN(
      second_worker_,
      Process::Start({path, "--listen=127.0.0.1:0",
                      "--metrics-listen=127.0.0.1:0",
                      "--cache-dir=" + JoinPath(dir_->path(), "worker-2"),
                      "--trainer=" + addresses_.at(Part::kTrainer),
                      "--curator=" + addresses_.at(Part::kCurator),
                      "--worker-id=e2e-2", kThreads}));
  SL_ASSIGN_OR_RETURN(
      const std::string line,
      second_worker_->WaitForLine("listening on", kPatienceSeconds));
  const size_t begin = line.find("http://") + 7;
  second_worker_metrics_address_ =
      line.substr(begin, line.find('/', begin) - begin);
  return absl::OkStatus();
}

std::vector<std::string> Cluster::CliArguments(
    const std::vector<std::string>& arguments,
    const std::map<Part, std::string>& elsewhere) const {
  std::map<Part, std::string> addresses = elsewhere;
  addresses.insert(addresses_.begin(), addresses_.end());
  std::vector<std::string> all = {
      cli_path_, "--curator=" + addresses.at(Part::kCurator),
      "--trainer=" + addresses.at(Part::kTrainer),
      "--inference=" + addresses.at(Part::kInference)};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

absl::StatusOr<CommandResult> Cluster::Cli(
    const std::vector<std::string>& arguments,
    const std::string& stdin_text) const {
  return RunCommand(CliArguments(arguments), kPatienceSeconds,
                    {.stdin_text = stdin_text, .environment = {}});
}

absl::StatusOr<nlohmann::json> Cluster::CliJson(
    const std::vector<std::string>& arguments) const {
  std::vector<std::string> with_json = {"--json"};
  with_json.insert(with_json.end(), arguments.begin(), arguments.end());
  SL_ASSIGN_OR_RETURN(const CommandResult result, Cli(with_json));
  if (result.exit_code != 0) {
    return absl::UnknownError(fmt::format(
        "exit code {}: {}{}", result.exit_code, result.out, result.err));
  }
  auto document = nlohmann::json::parse(result.out, nullptr, false);
  if (document.is_discarded()) {
    return absl::UnknownError("not one JSON document: " + result.out);
  }
  return document;
}

}  // namespace sinklora::testing
