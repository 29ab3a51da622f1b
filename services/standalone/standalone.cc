// SPDX-License-Identifier: Apache-2.0
#include "services/standalone/standalone.h"

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/executor.h"
#include "common/base/files.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/metrics/build_info.h"
#include "common/metrics/metrics.h"
#include "common/model/device.h"
#include "common/rpc/address.h"
#include "common/rpc/server.h"
#include "services/curator/curator.h"
#include "services/inference/inference.h"
#include "services/standalone/data_dir_lock.h"
#include "services/trainer/trainer.h"
#include "services/worker/worker.h"

namespace sinklora::standalone {
namespace {

constexpr int kMaxWorkers = 64;

// The port, known to the parts once the server listens.
class SharedAddress {
 public:
  void Set(std::string address) {
    MutexLock lock(&mutex_);
    address_ = std::move(address);
  }
  std::string Get() const {
    MutexLock lock(&mutex_);
    return address_;
  }

 private:
  mutable Mutex mutex_;
  std::string address_ ABSL_GUARDED_BY(mutex_);
};

class StandaloneImpl final : public Standalone {
 public:
  explicit StandaloneImpl(StandaloneOptions options)
      : options_(std::move(options)) {}
  ~StandaloneImpl() override { Stop(0); }

  absl::Status Start();
  std::string address() const override { return address_.Get(); }
  std::string metrics_url() const override {
    return fmt::format("http://{}:{}/metrics", HostOf(options_.metrics_listen),
                       exposer_->port());
  }
  void Stop(double grace_seconds) override;

 private:
  absl::Status CheckOptions() const;
  absl::Status MakeServices();
  absl::Status MakeWorkers();
  absl::Status Listen();
  absl::Status Announce();
  std::string Path(const std::string& name) const {
    return JoinPath(options_.data_dir, name);
  }

  const StandaloneOptions options_;
  SharedAddress address_;
  Mutex stop_mutex_;
  bool stopped_ ABSL_GUARDED_BY(stop_mutex_) = false;
  // In the order of construction; destroyed the other way round.
  std::unique_ptr<DataDirLock> lock_;
  // One for all: the parts share the disk.
  std::unique_ptr<DiskBudget> disk_;
  const std::unique_ptr<MetricsRegistry> metrics_ = MetricsRegistry::Create();
  // One a service: a call of one that waits for another never holds the thread
  // the other needs.
  const std::unique_ptr<Executor> curator_executor_ =
      Executor::Create({.name = "curator"});
  const std::unique_ptr<Executor> trainer_executor_ =
      Executor::Create({.name = "trainer"});
  const std::unique_ptr<Executor> inference_executor_ =
      Executor::Create({.name = "inference"});
  std::unique_ptr<curator::Curator> curator_;
  std::unique_ptr<trainer::Trainer> trainer_;
  std::unique_ptr<inference::Inference> inference_;
  std::vector<std::unique_ptr<worker::Worker>> workers_;
  std::unique_ptr<MetricsExposer> exposer_;
  std::unique_ptr<RpcServer> server_;
};

absl::Status StandaloneImpl::CheckOptions() const {
  if (options_.data_dir.empty()) {
    return absl::InvalidArgumentError("--data-dir is required");
  }
  if (options_.workers < 0 || options_.workers > kMaxWorkers) {
    return absl::InvalidArgumentError(fmt::format(
        "--workers {}: must be in [0, {}]", options_.workers, kMaxWorkers));
  }
  if (options_.threads < 0) {
    return absl::InvalidArgumentError(
        fmt::format("--threads {}: must be >= 0", options_.threads));
  }
  if (options_.inference_memory_bytes < 0) {
    return absl::InvalidArgumentError(
        fmt::format("--inference-memory-bytes {}: must be >= 0",
                    options_.inference_memory_bytes));
  }
  if (IsDeviceList(options_.device)) {
    return absl::InvalidArgumentError(
        fmt::format("--device {}: must be one device; name several GPUs for "
                    "training with --worker-device",
                    options_.device));
  }
  if (IsDeviceList(options_.worker_device) && options_.workers > 1) {
    return absl::InvalidArgumentError(fmt::format(
        "--workers {}: must be in [0, 1] with several GPUs, --worker-device {}",
        options_.workers, options_.worker_device));
  }
  if (!(options_.lease_ttl_seconds > 0)) {
    return absl::InvalidArgumentError(fmt::format(
        "--lease-ttl-seconds {}: must be > 0", options_.lease_ttl_seconds));
  }
  return ValidateListenAddress("--metrics-listen", options_.metrics_listen,
                               /*allow_remote=*/false);
}

absl::Status StandaloneImpl::MakeServices() {
  const auto self = [this] { return address_.Get(); };
  SL_ASSIGN_OR_RETURN(disk_, DiskBudget::Create(options_.data_dir,
                                                options_.disk_reserve_bytes));
  SL_ASSIGN_OR_RETURN(
      curator_, curator::Curator::Create({.data_dir = Path("curator"),
                                          .registry_address = self,
                                          .threads = options_.threads,
                                          .metrics = metrics_.get(),
                                          .executor = curator_executor_.get(),
                                          .disk = disk_.get()}));
  trainer::TrainerOptions trainer_options;
  trainer_options.data_dir = Path("trainer");
  trainer_options.import_root = options_.import_root;
  trainer_options.device = options_.device;
  trainer_options.threads = options_.threads;
  trainer_options.curator_address = self;
  trainer_options.metrics = metrics_.get();
  trainer_options.executor = trainer_executor_.get();
  trainer_options.disk = disk_.get();
  trainer_options.lease_ttl_seconds = options_.lease_ttl_seconds;
  SL_ASSIGN_OR_RETURN(trainer_, trainer::Trainer::Create(trainer_options));
  inference::InferenceOptions inference_options;
  inference_options.cache_dir = Path("inference");
  inference_options.registry_address = self;
  inference_options.device = options_.device;
  inference_options.threads = options_.threads;
  inference_options.cpu_isa = options_.cpu_isa;
  inference_options.cuda_graphs = options_.cuda_graphs;
  inference_options.weight_type = options_.weight_type;
  inference_options.cache_storage = options_.cache_storage;
  inference_options.limits.max_memory_bytes = options_.inference_memory_bytes;
  inference_options.metrics = metrics_.get();
  inference_options.executor = inference_executor_.get();
  inference_options.clock = RealClock();
  SL_ASSIGN_OR_RETURN(inference_,
                      inference::Inference::Create(inference_options));
  return absl::OkStatus();
}

absl::Status StandaloneImpl::MakeWorkers() {
  const auto self = [this] { return address_.Get(); };
  for (int i = 0; i < options_.workers; ++i) {
    worker::WorkerOptions options;
    options.worker_id = fmt::format("standalone-{}", i);
    options.index = i;
    options.trainer_address = self;
    options.curator_address = self;
    options.cache_dir = JoinPath(Path("worker"), std::to_string(i));
    options.device = options_.worker_device.empty() ? options_.device
                                                    : options_.worker_device;
    options.threads = options_.threads;
    options.cpu_isa = options_.cpu_isa;
    // All workers of the process have the same devices.
    options.join_groups = false;
    options.metrics = metrics_.get();
    SL_ASSIGN_OR_RETURN(auto worker, worker::Worker::Create(options));
    workers_.push_back(std::move(worker));
  }
  return absl::OkStatus();
}

absl::Status StandaloneImpl::Listen() {
  SL_ASSIGN_OR_RETURN(exposer_, MetricsExposer::Create(options_.metrics_listen,
                                                       metrics_.get()));
  std::vector<grpc::Service*> services = trainer_->services();
  services.push_back(curator_->service());
  services.push_back(inference_->service());
  SL_ASSIGN_OR_RETURN(
      server_, RpcServer::Create({.address = options_.listen}, services));
  address_.Set(server_->address());
  server_->SetServing(true);
  return absl::OkStatus();
}

absl::Status StandaloneImpl::Announce() {
  const nlohmann::ordered_json endpoint = {
      {"grpc", address()}, {"metrics", metrics_url()}, {"pid", getpid()}};
  return WriteFileAtomic(Path("endpoint.json"), endpoint.dump() + "\n");
}

absl::Status StandaloneImpl::Start() {
  SL_RETURN_IF_ERROR(CheckOptions());
  ExportBuildInfo(metrics_.get());
  SL_ASSIGN_OR_RETURN(lock_, DataDirLock::Acquire(options_.data_dir));
  SL_RETURN_IF_ERROR(MakeServices());
  SL_RETURN_IF_ERROR(MakeWorkers());
  SL_RETURN_IF_ERROR(Listen());
  for (const auto& worker : workers_) worker->Start();
  return Announce();
}

// First what starts work, then what serves it: a stopping worker still needs
// the trainer for its last checkpoint.
void StandaloneImpl::Stop(double grace_seconds) {
  MutexLock lock(&stop_mutex_);
  if (stopped_) return;
  stopped_ = true;
  // Without the lock the file belongs to another process.
  if (lock_ != nullptr) RemoveAll(Path("endpoint.json")).IgnoreError();
  if (server_ != nullptr) server_->SetServing(false);
  if (inference_ != nullptr) inference_->Drain();
  for (const auto& worker : workers_) worker->RequestStop();
  for (const auto& worker : workers_) worker->Stop();
  if (curator_ != nullptr) curator_->Stop();
  if (trainer_ != nullptr) trainer_->Stop();
  if (server_ != nullptr) server_->Drain(grace_seconds);
  server_.reset();
  if (inference_ != nullptr) inference_->Stop();
  for (Executor* executor : {curator_executor_.get(), trainer_executor_.get(),
                             inference_executor_.get()}) {
    executor->Shutdown();
  }
  workers_.clear();
  inference_.reset();
  trainer_.reset();
  curator_.reset();
  lock_.reset();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Standalone>> Standalone::Create(
    const StandaloneOptions& options) {
  auto standalone = std::make_unique<StandaloneImpl>(options);
  SL_RETURN_IF_ERROR(standalone->Start());
  return standalone;
}

}  // namespace sinklora::standalone
