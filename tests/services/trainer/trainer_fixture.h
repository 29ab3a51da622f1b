// The trainer's core on a temporary directory, with a clock that stands still
// and a store whose writes can be made to fail.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_TRAINER_TRAINER_FIXTURE_H_
#define SINKLORA_TESTS_SERVICES_TRAINER_TRAINER_FIXTURE_H_

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "common/base/disk_budget.h"
#include "common/base/files.h"
#include "common/metrics/metrics.h"
#include "common/store/store.h"
#include "services/trainer/artifact_store.h"
#include "services/trainer/dataset_catalog.h"
#include "services/trainer/job_manager.h"
#include "services/trainer/metrics.h"
#include "services/trainer/registry.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/faulty_store.h"

namespace sinklora::trainer {

class FakeDatasets final : public DatasetCatalog {
 public:
  absl::StatusOr<curator::v1::Dataset> GetDataset(
      const std::string& name) override;

  std::map<std::string, curator::v1::Dataset> datasets;
  absl::Status failure;  // of every call, unless OK
};

class TrainerCoreTest : public ::testing::Test {
 protected:
  static constexpr double kTtlSeconds = 15;
  static constexpr int kMaxAttempts = 3;

  void SetUp() override;
  // Closes everything and opens it again from the disk, as after a restart.
  void Reopen();

  // Model "base" with the tiny model's files, dataset "data" for it.
  void AddInputs();
  // A valid spec on these inputs.
  trainer::v1::TrainingSpec Spec(const std::string& output = "tuned");
  trainer::v1::TrainingJob Submit(const std::string& output = "tuned");
  // What `worker` gets when it asks for a job. With devices it can join.
  absl::StatusOr<trainer::v1::LeaseJobResponse> Ask(const std::string& worker,
                                                    int devices = 0);
  // Takes a lease, which must be given.
  trainer::v1::Lease Lease(const std::string& worker = "w1");
  trainer::v1::TrainingJob Job(const std::string& name);

  // A staged upload of one checkpoint file holding `content`.
  absl::StatusOr<trainer::v1::Checkpoint> Commit(
      const trainer::v1::Lease& lease, int64_t step,
      const std::string& content = "state");
  // Ends a job; SUCCEEDED hands in a small PEFT adapter.
  absl::StatusOr<trainer::v1::TrainingJob> Finish(
      const trainer::v1::Lease& lease, trainer::v1::JobState outcome);
  absl::StatusOr<trainer::v1::HeartbeatResponse> Beat(
      const trainer::v1::Lease& lease, std::vector<int64_t> steps = {});

  absl::Status Delete(const std::string& job, const std::string& request_id);
  void ExpireLease();  // of every running job
  static std::string ReasonOf(const absl::Status& status);

  // A PEFT directory for the tiny model in `dir`; `value` fills its matrices.
  static absl::Status WriteAdapter(const std::string& dir, float value = 0.5f);
  // A staging directory with the tiny model of `seed`.
  std::unique_ptr<TempDir> StageModel(uint64_t seed = 1);
  std::unique_ptr<TempDir> StageAdapter(float value = 0.5f);
  absl::StatusOr<registry::v1::Model> ImportModel(const std::string& name,
                                                  const std::string& request_id,
                                                  const TempDir& staged);
  absl::StatusOr<registry::v1::Adapter> ImportAdapter(
      const std::string& name, const std::string& request_id,
      const TempDir& staged, const std::string& base = "base");

  // Entries of DATA/`kind`.
  int CountDirs(const std::string& kind);
  double Metric(const std::string& name, const Labels& labels = {});
  std::string NextRequestId();

  std::unique_ptr<TempDir> dir_;
  testing::FakeClock clock_;
  FakeDatasets datasets_;
  std::unique_ptr<MetricsRegistry> metrics_registry_;
  std::unique_ptr<TrainerMetrics> metrics_;
  std::unique_ptr<Store> rocks_;
  std::unique_ptr<testing::FaultyStore> store_;
  std::unique_ptr<DiskBudget> disk_;
  std::unique_ptr<ArtifactStore> artifacts_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<JobManager> jobs_;
  int64_t disk_reserve_bytes_ = 0;
  Clock* jobs_clock_ = &clock_;  // of the next Reopen()
  int64_t kept_events_ = 1000;
  int next_request_ = 0;
};

}  // namespace sinklora::trainer

#endif  // SINKLORA_TESTS_SERVICES_TRAINER_TRAINER_FIXTURE_H_
