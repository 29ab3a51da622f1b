// A real trainer behind a real server, and a stand-in for the curator that
// streams examples of a fixed seed: what RPC and worker tests run against.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_TRAINER_CLUSTER_H_
#define SINKLORA_TESTS_SERVICES_TRAINER_CLUSTER_H_

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/disk_budget.h"
#include "common/base/executor.h"
#include "common/base/files.h"
#include "common/metrics/metrics.h"
#include "common/rpc/server.h"
#include "services/trainer/trainer.h"
#include "sinklora/curator/v1/curator_service.grpc.pb.h"
#include "sinklora/registry/v1/registry_service.grpc.pb.h"
#include "sinklora/trainer/v1/training_service.grpc.pb.h"
#include "sinklora/trainer/v1/worker_service.grpc.pb.h"
#include "tests/testing/fake_clock.h"

namespace sinklora::testing {

// What the stand-in curator has: one dataset, "data", digest "d1".
struct FakeDataset {
  curator::v1::Dataset dataset;
  std::vector<curator::v1::Example> train;
  std::vector<curator::v1::Example> validation;
};

class ClusterTest : public ::testing::Test {
 protected:
  static constexpr double kTtlSeconds = 3;
  static constexpr int kContextTokens = 96;
  static constexpr int64_t kDiskReserveBytes = 4096;

  void SetUp() override;
  void TearDown() override;

  // Imports the tiny model as "base" over RPC and makes the dataset for it.
  void AddInputs();
  // Uploads every file of `dir`.
  absl::StatusOr<registry::v1::Model> ImportModel(const std::string& name,
                                                  const std::string& dir);

  // A short LoRA job with SF-Attn on these inputs.
  trainer::v1::TrainingSpec Spec(const std::string& output);
  absl::StatusOr<trainer::v1::TrainingJob> Create(
      const trainer::v1::TrainingSpec& spec);
  trainer::v1::TrainingJob Submit(const trainer::v1::TrainingSpec& spec);
  trainer::v1::TrainingJob Job(const std::string& name);
  absl::Status Cancel(const std::string& name);
  absl::StatusOr<registry::v1::Adapter> Adapter(const std::string& name);
  // Watches the job until `enough` says so or it ends. All events seen.
  std::vector<trainer::v1::JobEvent> Watch(
      const std::string& name,
      const std::function<bool(const trainer::v1::JobEvent&)>& enough = {});

  std::string trainer_address() const { return trainer_server_->address(); }
  std::string curator_address() const { return curator_server_->address(); }
  // Value of a counter or gauge in `registry`; -1 when it is not there.
  static double Metric(const MetricsRegistry& registry,
                       const std::string& series);

  std::unique_ptr<TempDir> dir_;
  FakeClock trainer_clock_;
  // The trainer's disk has no more room than its reserve.
  std::atomic<bool> disk_full_ = false;
  FakeDataset dataset_;
  std::unique_ptr<MetricsRegistry> metrics_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<DiskBudget> disk_;
  std::unique_ptr<grpc::Service> curator_;
  std::unique_ptr<RpcServer> curator_server_;
  std::unique_ptr<trainer::Trainer> trainer_;
  std::unique_ptr<RpcServer> trainer_server_;
  std::unique_ptr<trainer::v1::TrainingService::Stub> training_;
  std::unique_ptr<trainer::v1::WorkerService::Stub> worker_;
  std::unique_ptr<registry::v1::RegistryService::Stub> registry_;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_SERVICES_TRAINER_CLUSTER_H_
