// SPDX-License-Identifier: Apache-2.0
#include "services/inference/engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "services/inference/run_guarded.h"

namespace sinklora::inference {
namespace {

// Part of a device's memory that is used when nothing else was said: the rest
// is for scratch memory of ops and for others.
constexpr double kDefaultMemoryShare = 0.9;

absl::Status CheckLimit(const char* name, int64_t value, int64_t minimum) {
  if (value >= minimum) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} is {}, must be at least {}", name, value, minimum));
}

// The status of a task that another thread runs.
class Outcome {
 public:
  void Set(absl::Status status) {
    MutexLock lock(&mutex_);
    status_ = std::move(status);
    done_ = true;
    changed_.NotifyAll();
  }
  absl::Status Wait() {
    MutexLock lock(&mutex_);
    while (!done_) changed_.Wait(&mutex_);
    return status_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineLimits& limits, std::unique_ptr<kernels::Backend> backend,
    InferenceMetrics* metrics, Clock* clock) {
  SL_RETURN_IF_ERROR(
      CheckLimit("max_running_requests", limits.max_running_requests, 1));
  SL_RETURN_IF_ERROR(
      CheckLimit("max_waiting_requests", limits.max_waiting_requests, 0));
  SL_RETURN_IF_ERROR(
      CheckLimit("prefill_chunk_tokens", limits.prefill_chunk_tokens, 1));
  SL_RETURN_IF_ERROR(
      CheckLimit("max_pending_deltas", limits.max_pending_deltas, 1));
  SL_RETURN_IF_ERROR(
      CheckLimit("max_memory_bytes", limits.max_memory_bytes, 0));
  EngineLimits resolved = limits;
  if (resolved.max_memory_bytes == 0) {
    resolved.max_memory_bytes = static_cast<int64_t>(
        kDefaultMemoryShare * static_cast<double>(backend->memory_bytes()));
  }
  metrics->memory_limit_bytes->Set(
      static_cast<double>(resolved.max_memory_bytes));
  std::unique_ptr<Engine> engine(
      new Engine(resolved, std::move(backend), metrics, clock));
  engine->thread_ = std::thread([raw = engine.get()] { raw->Loop(); });
  return engine;
}

Engine::Engine(const EngineLimits& limits,
               std::unique_ptr<kernels::Backend> backend,
               InferenceMetrics* metrics, Clock* clock)
    : limits_(limits),
      backend_(std::move(backend)),
      decoder_(BatchDecoder::Create()),
      metrics_(metrics),
      clock_(clock),
      wake_(std::make_shared<WakeSignal>()) {}

Engine::~Engine() {
  {
    MutexLock lock(&mutex_);
    draining_ = true;
    stopping_ = true;
  }
  wake_->Notify();
  if (thread_.joinable()) thread_.join();
}

absl::Status Engine::CheckAccepting() const {
  MutexLock lock(&mutex_);
  const absl::Status accepting = CheckAcceptingLocked();
  if (!accepting.ok()) {
    metrics_->rejected(RejectReason::kDraining)->Increment();
  }
  return accepting;
}

absl::Status Engine::CheckAcceptingLocked() const {
  if (!draining_) return absl::OkStatus();
  return MakeError(absl::StatusCode::kUnavailable,
                   "the inference service is shutting down",
                   {.reason = "DRAINING", .metadata = {}});
}

absl::Status Engine::CheckAdmission() {
  const absl::Status accepting = CheckAcceptingLocked();
  if (!accepting.ok()) {
    metrics_->rejected(RejectReason::kDraining)->Increment();
    return accepting;
  }
  const int waiting = static_cast<int>(waiting_.size()) + waiting_tasks_;
  // A request that finds a free slot waits for the turn only, not for another
  // request.
  const int limit = limits_.max_waiting_requests + limits_.max_running_requests;
  if (waiting + running_requests_ < limit) return absl::OkStatus();
  metrics_->rejected(RejectReason::kQueueFull)->Increment();
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      fmt::format("{} requests run and {} wait; at most {} may run and {} wait",
                  running_requests_, waiting, limits_.max_running_requests,
                  limits_.max_waiting_requests),
      {.reason = "QUEUE_FULL",
       .metadata = {{"max_running_requests",
                     fmt::format("{}", limits_.max_running_requests)},
                    {"max_waiting_requests",
                     fmt::format("{}", limits_.max_waiting_requests)}}});
}

absl::StatusOr<std::unique_ptr<Generation>> Engine::Submit(
    GenerationRequest request) {
  auto channel =
      std::make_shared<EventChannel>(limits_.max_pending_deltas, wake_);
  {
    MutexLock lock(&mutex_);
    SL_RETURN_IF_ERROR(CheckAdmission());
    waiting_.push_back(std::make_unique<GenerationTask>(
        std::move(request), channel, limits_.prefill_chunk_tokens, metrics_,
        clock_));
    UpdateGauges();
  }
  wake_->Notify();
  return std::make_unique<Generation>(std::move(channel));
}

absl::Status Engine::Run(const Task& task) {
  return RunAndWait(task, /*counted=*/true);
}

absl::Status Engine::RunInternal(const Task& task) {
  return RunAndWait(task, /*counted=*/false);
}

absl::Status Engine::RunAndWait(const Task& task, bool counted) {
  // Shared with the queue: the waiter may be gone before Set has returned.
  auto outcome = std::make_shared<Outcome>();
  const int64_t arrival_micros = clock_->MonotonicMicros();
  auto run = [this, &task, outcome, counted, arrival_micros] {
    if (counted) {
      metrics_->queue_duration_seconds->Observe(
          static_cast<double>(clock_->MonotonicMicros() - arrival_micros) *
          1e-6);
    }
    absl::Status status =
        RunGuarded("task", [&] { return task(backend_.get()); });
    if (counted) {
      MutexLock lock(&mutex_);
      --running_requests_;
      UpdateGauges();
    }
    outcome->Set(std::move(status));
  };
  {
    MutexLock lock(&mutex_);
    if (counted) {
      SL_RETURN_IF_ERROR(CheckAdmission());
      ++waiting_tasks_;
    } else if (stopping_) {
      // The thread may be gone: nobody would ever run it.
      return CheckAcceptingLocked();
    }
    tasks_.push_back({std::move(run), counted});
    UpdateGauges();
  }
  wake_->Notify();
  return outcome->Wait();
}

void Engine::Post(std::function<void()> work) {
  {
    MutexLock lock(&mutex_);
    auto run = [work = std::move(work)] {
      RunGuarded("posted work", [&] {
        work();
        return absl::OkStatus();
      }).IgnoreError();  // nobody waits for it
    };
    tasks_.push_back({std::move(run), /*counted=*/false});
  }
  wake_->Notify();
}

void Engine::Drain() {
  MutexLock lock(&mutex_);
  draining_ = true;
}

void Engine::WaitUntilIdle() {
  MutexLock lock(&mutex_);
  while (running_requests_ > 0 || waiting_tasks_ > 0 || !waiting_.empty()) {
    idle_.Wait(&mutex_);
  }
}

}  // namespace sinklora::inference
