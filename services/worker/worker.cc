// SPDX-License-Identifier: Apache-2.0
#include "services/worker/worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/model/device.h"
#include "kernels/backend.h"
#include "services/worker/job_runner.h"
#include "services/worker/lease_keeper.h"
#include "services/worker/metrics.h"
#include "services/worker/model_cache.h"
#include "services/worker/remote.h"

namespace sinklora::worker {
namespace {

using std::chrono::microseconds;

constexpr double kUnreachableRetrySeconds = 1;
constexpr double kMaxRetrySeconds = 60;
constexpr uint64_t kJitterStream = 0x6a697474;
constexpr size_t kMaxWorkerIdBytes = 128;

std::string DeviceNames(
    const std::vector<std::unique_ptr<kernels::Backend>>& backends) {
  std::string out;
  for (const auto& backend : backends) {
    out += (out.empty() ? "" : ", ") + std::string(backend->name());
  }
  return out;
}

class WorkerImpl final : public Worker {
 public:
  explicit WorkerImpl(const WorkerOptions& options)
      : options_(options),
        metrics_(options.metrics, options.index),
        remote_(
            MakeGrpcRemote(options.trainer_address, options.curator_address)),
        jitter_(std::stoull(Sha256Hex(options.worker_id).substr(0, 15), nullptr,
                            16),
                kJitterStream) {}
  ~WorkerImpl() override { Stop(); }

  absl::Status Init() {
    SL_ASSIGN_OR_RETURN(models_,
                        ModelCache::Create(options_.cache_dir, remote_.get()));
    SL_ASSIGN_OR_RETURN(backends_, OpenDevices("worker", options_.device,
                                               {.num_threads = options_.threads,
                                                .cpu_isa = options_.cpu_isa},
                                               options_.metrics));
    metrics_.SetDevices(backends_.size());
    LogInfo("worker {} on {} device{}: {}", options_.worker_id,
            backends_.size(), backends_.size() == 1 ? "" : "s",
            DeviceNames(backends_));
    request_.set_worker_id(options_.worker_id);
    request_.set_devices(static_cast<int32_t>(backends_.size()));
    request_.set_can_join(options_.join_groups && CanJoin());
    return absl::OkStatus();
  }

  void Start() override {
    MutexLock lock(&mutex_);
    if (stopping_ || thread_.joinable()) return;
    thread_ = std::thread([this] { Run(); });
  }

  void RequestStop() override {
    MutexLock lock(&mutex_);
    stopping_ = true;
    if (keeper_ != nullptr) keeper_->RequestShutdown();
    wake_.NotifyAll();
  }

  void Stop() override {
    RequestStop();
    std::thread thread;
    {
      MutexLock lock(&mutex_);
      thread.swap(thread_);
    }
    if (thread.joinable()) thread.join();
  }

 private:
  // Whether the devices can work with those of other processes, as far as this
  // one can tell.
  bool CanJoin() {
    kernels::CollectiveId unused;
    const kernels::Status made = backends_[0]->MakeCollectiveId(&unused);
    if (!made.ok()) {
      LogInfo("worker {} takes no part in jobs of several workers: {}",
              options_.worker_id, std::string(made.message()));
    }
    return made.ok();
  }

  void Run() {
    bool reachable = true;
    while (true) {
      {
        MutexLock lock(&mutex_);
        if (stopping_) return;
      }
      const int64_t asked_micros = options_.clock->MonotonicMicros();
      const auto leased = remote_->LeaseJob(request_);
      if (!leased.ok()) {
        // Once, not every second of an outage.
        if (reachable) {
          LogWarning("cannot get a job, will keep asking: {}",
                     std::string(leased.status().message()));
        }
        reachable = false;
        Wait(kUnreachableRetrySeconds);
        continue;
      }
      if (!reachable) LogInfo("the trainer answers again");
      reachable = true;
      if (leased->has_lease()) {
        RunLeased(*leased, asked_micros);
      } else {
        Wait(leased->retry_after_seconds());
      }
    }
  }

  void RunLeased(const trainer::v1::LeaseJobResponse& leased,
                 int64_t asked_micros) {
    LogInfo("job {}: attempt {}, seat {} of {}", leased.job().name(),
            leased.job().attempt(), leased.lease().seat(),
            leased.lease().seats());
    LeaseKeeper keeper(remote_.get(), options_.clock, leased.lease(),
                       asked_micros);
    SetKeeper(&keeper);
    JobRunnerOptions runner;
    runner.remote = remote_.get();
    runner.models = models_.get();
    for (const auto& backend : backends_) {
      runner.backends.push_back(backend.get());
    }
    runner.metrics = &metrics_;
    runner.clock = options_.clock;
    metrics_.SetGroup(leased.lease().seats());
    const std::string outcome = RunJob(runner, leased.job(), &keeper);
    metrics_.SetGroup(0);
    SetKeeper(nullptr);
    metrics_.JobDone(outcome);
    if (outcome == "abandoned" && keeper.cause() == StopCause::kLeaseLost) {
      metrics_.LeaseLost();
    }
    LogInfo("job {}: {}", leased.job().name(), outcome);
  }

  void SetKeeper(LeaseKeeper* keeper) {
    MutexLock lock(&mutex_);
    keeper_ = keeper;
    // A stop that came between the lease and this.
    if (keeper_ != nullptr && stopping_) keeper_->RequestShutdown();
  }

  // Waits `seconds` give or take a fifth, so that workers that were started
  // together do not ask together. Returns early on a stop.
  void Wait(double seconds) {
    const double jitter = 0.8 + 0.4 * jitter_.Uniform(waits_++);
    const microseconds time(static_cast<int64_t>(
        1e6 * jitter * std::clamp(seconds, 0.01, kMaxRetrySeconds)));
    const auto end = std::chrono::steady_clock::now() + time;
    MutexLock lock(&mutex_);
    while (!stopping_) {
      const auto left = end - std::chrono::steady_clock::now();
      if (left.count() <= 0) return;
      wake_.WaitFor(&mutex_, left);
    }
  }

  const WorkerOptions options_;
  WorkerMetrics metrics_;
  const std::unique_ptr<Remote> remote_;
  std::unique_ptr<ModelCache> models_;
  std::vector<std::unique_ptr<kernels::Backend>> backends_;
  trainer::v1::LeaseJobRequest request_;  // for a job; set by Init()
  const CounterRng jitter_;
  uint64_t waits_ = 0;  // of the worker's thread

  Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  LeaseKeeper* keeper_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(
    const WorkerOptions& options) {
  if (options.worker_id.empty() ||
      options.worker_id.size() > kMaxWorkerIdBytes) {
    return absl::InvalidArgumentError(
        fmt::format("worker_id has {} bytes, allowed is [1, {}]",
                    options.worker_id.size(), kMaxWorkerIdBytes));
  }
  if (options.trainer_address == nullptr ||
      options.curator_address == nullptr || options.cache_dir.empty() ||
      options.metrics == nullptr || options.clock == nullptr) {
    return absl::InvalidArgumentError(
        "WorkerOptions: trainer_address, curator_address, cache_dir, metrics "
        "and clock are required");
  }
  auto worker = std::make_unique<WorkerImpl>(options);
  SL_RETURN_IF_ERROR(worker->Init());
  return worker;
}

}  // namespace sinklora::worker
