// The product as separate processes on one machine: trainer, curator, worker,
// inference, on ports that stay the same when a process is started again.
//
// Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_E2E_CLUSTER_H_
#define SINKLORA_TESTS_E2E_CLUSTER_H_

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "tests/e2e/process.h"

namespace sinklora::testing {

enum class Part { kTrainer, kCurator, kWorker, kInference };
const char* PartName(Part part);
inline constexpr Part kAllParts[] = {Part::kTrainer, Part::kCurator,
                                     Part::kWorker, Part::kInference};

// Longer than anything takes on a slow machine with sanitizers; no test's
// meaning depends on it.
inline constexpr double kPatienceSeconds = 120;

class Cluster {
 public:
  struct Options {
    double lease_ttl_seconds = 15;
    // The others are down until StartPart.
    std::vector<Part> parts = {std::begin(kAllParts), std::end(kAllParts)};
  };
  // All parts that were asked for serve when it returns.
  static absl::StatusOr<std::unique_ptr<Cluster>> Start(const Options& options);

  // Starts a part that is down, on its old port and data, and waits until it
  // serves. `more_flags` are for this start alone.
  absl::Status StartPart(Part part,
                         const std::vector<std::string>& more_flags = {});
  // One more worker beside Part::kWorker.
  absl::Status StartSecondWorker();
  void StopSecondWorker() { second_worker_.reset(); }
  const std::string& second_worker_metrics_address() const {
    return second_worker_metrics_address_;
  }
  void KillPart(Part part) { processes_.at(part)->Kill(); }
  Process* process(Part part) { return processes_.at(part).get(); }
  const std::string& address(Part part) const { return addresses_.at(part); }
  // host:port of the part's /metrics.
  const std::string& metrics_address(Part part) const {
    return metrics_addresses_.at(part);
  }
  // Where the part keeps its files.
  std::string data_dir(Part part) const {
    return JoinPath(dir_->path(), PartName(part));
  }
  // A directory for the test's own files.
  const std::string& scratch() const { return dir_->path(); }

  // Arguments of the `sinklora` command with this cluster's addresses in front,
  // but for those in `elsewhere`.
  std::vector<std::string> CliArguments(
      const std::vector<std::string>& arguments,
      const std::map<Part, std::string>& elsewhere = {}) const;
  absl::StatusOr<CommandResult> Cli(const std::vector<std::string>& arguments,
                                    const std::string& stdin_text = "") const;
  // The JSON document that a command prints. An error when its exit code is not
  // 0.
  absl::StatusOr<nlohmann::json> CliJson(
      const std::vector<std::string>& arguments) const;

 private:
  Cluster(Options options, std::unique_ptr<TempDir> dir)
      : options_(options), dir_(std::move(dir)) {}
  absl::StatusOr<std::vector<std::string>> CommandLine(Part part) const;
  // StartPart without the wait, and the wait.
  absl::Status Spawn(Part part, const std::vector<std::string>& more_flags);
  absl::Status WaitUntilServing(Part part);

  const Options options_;
  const std::unique_ptr<TempDir> dir_;
  std::string cli_path_;
  std::map<Part, std::string> addresses_;
  std::map<Part, std::string> metrics_addresses_;
  std::map<Part, std::unique_ptr<Process>> processes_;
  std::unique_ptr<Process> second_worker_;
  std::string second_worker_metrics_address_;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_E2E_CLUSTER_H_
