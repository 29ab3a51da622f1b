// What the tests of separate processes share: a cluster with a model and a
// dataset in it, and shorthands for jobs.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_E2E_FIXTURE_H_
#define SINKLORA_TESTS_E2E_FIXTURE_H_

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/e2e/cluster.h"

namespace sinklora::testing {

// Body of GET `path` from host:port. An error unless the answer is 200.
absl::StatusOr<std::string> HttpBody(const std::string& address,
                                     const std::string& path);

// Longest that a training job of these tests may take.
inline constexpr double kJobSeconds = 300;

class ClusterTest : public ::testing::Test {
 protected:
  // Starts the processes, imports model "tiny" and source "text", curates
  // dataset "set" of 128-token examples. `options.parts` must hold trainer and
  // curator.
  void StartWithData(const Cluster::Options& options = {});
  // The same for processes that run.
  void AddData();

  // Submits a job that tunes "tiny" on "set" and returns its name.
  absl::StatusOr<std::string> Submit(const std::string& output, int64_t steps,
                                     int64_t checkpoint_every,
                                     const std::vector<std::string>& more = {});
  static std::vector<std::string> SubmitArguments(const std::string& output,
                                                  int64_t steps,
                                                  int64_t checkpoint_every);
  absl::StatusOr<nlohmann::json> Job(const std::string& name);
  // Polls until the job's JSON satisfies `condition`; fails when the job ends
  // without.
  absl::StatusOr<nlohmann::json> WaitForJob(
      const std::string& name,
      const std::function<bool(const nlohmann::json&)>& condition);
  // Waits for the end; an error unless it is SUCCEEDED.
  absl::StatusOr<nlohmann::json> WaitForSuccess(const std::string& name);
  // Waits until a checkpoint was committed after the last Submit, whose job is
  // the only one that commits any. Asks every few milliseconds and so is back
  // while the job still runs, however busy the machine is.
  absl::Status WaitForFirstCheckpoint();

  // Files of an exported adapter, by name.
  absl::StatusOr<std::map<std::string, std::string>> Export(
      const std::string& adapter);

  // What a part serves at /metrics now.
  absl::StatusOr<std::string> Metrics(Part part) const;
  // Sum over all labels of one of its metrics; 0 when it is not there.
  absl::StatusOr<double> Metric(Part part, const std::string& name) const;
  // The same of any process, and of the series that have all of `labels`, each
  // written as in the text: service="CuratorService".
  static absl::StatusOr<double> MetricAt(
      const std::string& metrics_address, const std::string& name,
      const std::vector<std::string>& labels = {});

  std::string Scratch(const std::string& name) const;
  // Regular files that a part has below `directory` of its own.
  std::vector<std::string> FilesOf(Part part,
                                   const std::string& directory) const;

  std::unique_ptr<Cluster> cluster_;

 private:
  double checkpoints_before_submit_ = 0;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_E2E_FIXTURE_H_
