// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/trainer.h"

#include <fmt/format.h>
#include <grpcpp/impl/service_type.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "common/base/files.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/store/store.h"
#include "services/trainer/artifact_store.h"
#include "services/trainer/dataset_catalog.h"
#include "services/trainer/exporter.h"
#include "services/trainer/import_root.h"
#include "services/trainer/job_manager.h"
#include "services/trainer/metrics.h"
#include "services/trainer/registry.h"
#include "services/trainer/registry_service.h"
#include "services/trainer/training_service.h"
#include "services/trainer/worker_service.h"

namespace sinklora::trainer {
namespace {

// Takes back expired leases even while no worker asks for anything.
class LeaseSweeper {
 public:
  LeaseSweeper(JobManager* jobs, double lease_ttl_seconds)
      : jobs_(jobs),
        period_(std::chrono::microseconds(static_cast<int64_t>(
            1e6 * std::clamp(lease_ttl_seconds / 10, 0.05, 1.0)))),
        thread_([this] { Run(); }) {}
  ~LeaseSweeper() { Stop(); }

  void Stop() {
    {
      MutexLock lock(&mutex_);
      if (stopped_) return;
      stopped_ = true;
      wake_.NotifyAll();
    }
    thread_.join();
  }

 private:
  void Run() {
    MutexLock lock(&mutex_);
    while (!stopped_) {
      wake_.WaitFor(&mutex_, period_);
      if (!stopped_) jobs_->ExpireLeases();
    }
  }

  JobManager* const jobs_;
  const std::chrono::microseconds period_;
  Mutex mutex_;
  CondVar wake_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses everything above
};

class TrainerImpl final : public Trainer {
 public:
  explicit TrainerImpl(const TrainerOptions& options)
      : options_(options), metrics_(options.metrics) {}
  ~TrainerImpl() override { Stop(); }

  absl::Status Init() {
    SL_RETURN_IF_ERROR(MakeDirs(options_.data_dir));
    // The store first: its lock keeps a second process from the staging
    // directory that ArtifactStore empties.
    SL_ASSIGN_OR_RETURN(store_,
                        OpenRocksStore(JoinPath(options_.data_dir, "state")));
    SL_ASSIGN_OR_RETURN(
        artifacts_, ArtifactStore::Create({options_.data_dir, options_.disk}));
    SL_ASSIGN_OR_RETURN(import_root_, ImportRoot::Create(options_.import_root));
    datasets_ = MakeCuratorCatalog(options_.curator_address);
    SL_ASSIGN_OR_RETURN(registry_,
                        Registry::Create({store_.get(), artifacts_.get(),
                                          options_.clock, &metrics_}));
    exporter_ = std::make_unique<Exporter>(
        Exporter::Options{registry_.get(), artifacts_.get(), options_.clock,
                          options_.device, options_.threads, options_.metrics});
    JobManager::Options jobs;
    jobs.store = store_.get();
    jobs.artifacts = artifacts_.get();
    jobs.registry = registry_.get();
    jobs.datasets = datasets_.get();
    jobs.clock = options_.clock;
    jobs.metrics = &metrics_;
    jobs.lease_ttl_seconds = options_.lease_ttl_seconds;
    jobs.max_attempts = options_.max_attempts;
    SL_ASSIGN_OR_RETURN(jobs_, JobManager::Create(jobs));
    SL_RETURN_IF_ERROR(RemoveLeftovers());

    Executor* const executor = options_.executor;
    services_.push_back(
        MakeTrainingService(jobs_.get(), executor, options_.metrics));
    services_.push_back(MakeWorkerService(jobs_.get(), artifacts_.get(),
                                          executor, options_.metrics));
    RegistryServiceOptions registry;
    registry.registry = registry_.get();
    registry.jobs = jobs_.get();
    registry.artifacts = artifacts_.get();
    registry.import_root = import_root_.get();
    registry.exporter = exporter_.get();
    registry.executor = executor;
    registry.metrics = options_.metrics;
    services_.push_back(MakeRegistryService(registry));
    sweeper_ =
        std::make_unique<LeaseSweeper>(jobs_.get(), options_.lease_ttl_seconds);
    return absl::OkStatus();
  }

  std::vector<grpc::Service*> services() override {
    std::vector<grpc::Service*> services;
    for (const auto& service : services_) services.push_back(service.get());
    return services;
  }

  void Stop() override {
    if (sweeper_ != nullptr) sweeper_->Stop();
    if (jobs_ != nullptr) jobs_->Stop();
  }

 private:
  // Directories that were committed when the process died before the row that
  // names them was written, or after the row was deleted.
  absl::Status RemoveLeftovers() {
    std::set<std::string> kept = registry_->ReferencedDirs();
    SL_ASSIGN_OR_RETURN(auto checkpoints, jobs_->ReferencedDirs());
    kept.merge(checkpoints);
    return artifacts_->RemoveAllBut(kept);
  }

  const TrainerOptions options_;
  TrainerMetrics metrics_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<ArtifactStore> artifacts_;
  std::unique_ptr<ImportRoot> import_root_;
  std::unique_ptr<DatasetCatalog> datasets_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<Exporter> exporter_;
  std::unique_ptr<JobManager> jobs_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::unique_ptr<LeaseSweeper> sweeper_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(
    const TrainerOptions& options) {
  if (options.data_dir.empty() || options.curator_address == nullptr ||
      options.metrics == nullptr || options.executor == nullptr ||
      options.clock == nullptr || options.disk == nullptr) {
    return absl::InvalidArgumentError(
        "TrainerOptions: data_dir, curator_address, metrics, executor, "
        "clock and disk are required");
  }
  auto trainer = std::make_unique<TrainerImpl>(options);
  SL_RETURN_IF_ERROR(trainer->Init());
  return trainer;
}

}  // namespace sinklora::trainer
