// The engine's thread: turn after turn it admits, prefills, decodes and
// samples.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/model/sampler.h"
#include "services/inference/engine.h"
#include "services/inference/run_guarded.h"

namespace sinklora::inference {
namespace {

// How often the engine looks for cancellations when all it has are requests
// that cannot be stepped.
constexpr std::chrono::milliseconds kCancellationPollPeriod{20};

}  // namespace

void Engine::Loop() {
  while (true) {
    if (Turn()) continue;
    bool has_requests = !running_.empty();
    {
      MutexLock lock(&mutex_);
      if (stopping_ && tasks_.empty()) break;
      has_requests = has_requests || !waiting_.empty();
    }
    if (has_requests) {
      wake_->WaitFor(kCancellationPollPeriod);
    } else {
      wake_->Wait();
    }
  }
}

bool Engine::Turn() {
  if (stopping()) DropAll();
  const bool ran = RunOneTask();
  const bool admitted = AdmitWaiting();
  const bool stepped = StepRunning();
  return ran || admitted || stepped;
}

bool Engine::RunOneTask() {
  QueuedTask task;
  {
    MutexLock lock(&mutex_);
    if (tasks_.empty()) return false;
    task = std::move(tasks_.front());
    tasks_.pop_front();
    if (task.counted) {
      --waiting_tasks_;
      ++running_requests_;
    }
    UpdateGauges();
  }
  task.run();
  return true;
}

bool Engine::AdmitWaiting() {
  // Tasks are destroyed outside the lock: that may release a target, which
  // posts to this engine.
  std::list<std::unique_ptr<GenerationTask>> gone, refused, admitted;
  int64_t free_bytes = FreeBytes();
  {
    MutexLock lock(&mutex_);
    const size_t limit = limits_.max_running_requests;
    bool blocked = false;  // nobody overtakes one that waits for room
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const auto task = it++;
      const int64_t bytes = (*task)->planned_bytes();
      if ((*task)->Cancelled()) {
        gone.splice(gone.end(), waiting_, task);
      } else if (blocked || running_.size() + admitted.size() >= limit) {
        blocked = true;
      } else if (bytes <= free_bytes) {
        free_bytes -= bytes;
        admitted.splice(admitted.end(), waiting_, task);
      } else if (running_.empty() && admitted.empty()) {
        refused.splice(refused.end(), waiting_, task);
      } else {
        blocked = true;
      }
    }
    running_requests_ += static_cast<int>(admitted.size());
    UpdateGauges();
  }
  for (auto& task : gone) {
    task->Fail(absl::CancelledError("cancelled while waiting"));
  }
  for (auto& task : refused) {
    metrics_->rejected(RejectReason::kMemory)->Increment();
    task->Fail(MemoryError(*task));
  }
  const bool any = !gone.empty() || !refused.empty() || !admitted.empty();
  for (auto& task : admitted) {
    Advance(task.get(), [](GenerationTask* t) { t->Start(); });
  }
  running_.splice(running_.end(), admitted);
  if (any) UpdatePlannedBytes();
  return any;
}

int64_t Engine::FreeBytes() const {
  int64_t bytes = limits_.max_memory_bytes - backend_->allocated_bytes();
  for (const auto& task : running_) bytes -= task->bytes_to_come();
  return bytes;
}

absl::Status Engine::MemoryError(const GenerationTask& task) const {
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      fmt::format("the generation needs {} bytes, the device has {} of {} left "
                  "beside the loaded models; ask for fewer tokens, a smaller "
                  "cache budget or a smaller cache storage",
                  task.planned_bytes(), std::max<int64_t>(0, FreeBytes()),
                  limits_.max_memory_bytes),
      {.reason = "MEMORY",
       .metadata = {
           {"needed_bytes", fmt::format("{}", task.planned_bytes())},
           {"limit_bytes", fmt::format("{}", limits_.max_memory_bytes)}}});
}

void Engine::UpdatePlannedBytes() {
  double bytes = 0;
  for (const auto& task : running_) {
    bytes += static_cast<double>(task->planned_bytes());
  }
  metrics_->memory_planned_bytes->Set(bytes);
}

template <typename Part>
void Engine::Advance(GenerationTask* task, const Part& part) {
  const absl::Status status = RunGuarded("generation", [&] {
    part(task);
    return absl::OkStatus();
  });
  if (!status.ok() && !task->done()) task->Fail(status);
}

bool Engine::StepRunning() {
  std::vector<GenerationTask*> decoding;
  bool stepped = false;
  for (const auto& task : running_) {
    if (task->done()) continue;
    if (task->Cancelled()) {
      task->Fail(absl::CancelledError("the client went away"));
    } else if (task->Blocked()) {
      continue;
    } else if (task->decoding()) {
      decoding.push_back(task.get());
    } else {
      Prefill(task.get());
      stepped = true;
    }
  }
  if (!decoding.empty()) {
    DecodeTogether(decoding);
    stepped = true;
  }
  return RemoveDone() || stepped;
}

void Engine::Prefill(GenerationTask* task) {
  Advance(task, [](GenerationTask* t) { t->Prefill(); });
  if (task->done() || !task->decoding()) return;
  std::vector<absl::StatusOr<int32_t>> token(1, int32_t{0});
  SampleTogether({&task, 1}, token);
  Advance(task, [&](GenerationTask* t) { t->FinishPrefill(token[0]); });
}

void Engine::SampleTogether(std::span<GenerationTask* const> tasks,
                            std::span<absl::StatusOr<int32_t>> tokens) {
  std::vector<SampleRequest> requests;
  std::vector<size_t> taken;
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (!tokens[i].ok()) continue;
    requests.push_back(tasks[i]->sample_request());
    taken.push_back(i);
  }
  std::vector<absl::StatusOr<int32_t>> sampled;
  const absl::Status status = RunGuarded("sampling", [&] {
    sampled = SampleTokens(backend_.get(), requests);
    return absl::OkStatus();
  });
  if (!status.ok()) sampled.assign(requests.size(), status);
  for (size_t r = 0; r < taken.size(); ++r) {
    tokens[taken[r]] = std::move(sampled[r]);
  }
}

void Engine::DecodeTogether(std::span<GenerationTask* const> tasks) {
  std::vector<Sequence*> sequences;
  std::vector<int32_t> tokens;
  for (GenerationTask* task : tasks) {
    sequences.push_back(task->sequence());
    tokens.push_back(task->last_token());
  }
  const int64_t start_micros = clock_->MonotonicMicros();
  std::vector<absl::Status> outcomes;
  const absl::Status status = RunGuarded("decoding", [&] {
    outcomes = decoder_->Decode(sequences, tokens);
    return absl::OkStatus();
  });
  CountSteps();
  // What threw may have left any of them half-way.
  if (!status.ok()) outcomes.assign(tasks.size(), status);
  std::vector<absl::StatusOr<int32_t>> next_tokens;
  for (const absl::Status& outcome : outcomes) {
    if (outcome.ok()) {
      next_tokens.emplace_back(0);
    } else {
      next_tokens.emplace_back(outcome);
    }
  }
  SampleTogether(tasks, next_tokens);
  const double seconds =
      static_cast<double>(clock_->MonotonicMicros() - start_micros) * 1e-6;
  metrics_->decode_batch_sequences->Observe(static_cast<double>(tasks.size()));
  for (size_t i = 0; i < tasks.size(); ++i) {
    Advance(tasks[i], [&](GenerationTask* t) {
      t->FinishDecode(next_tokens[i], seconds);
    });
  }
}

void Engine::CountSteps() {
  const kernels::RepeatCounts now = backend_->repeat_counts();
  const auto count = [this](StepKind kind, int64_t steps) {
    metrics_->decode_steps(kind)->Increment(static_cast<double>(steps));
  };
  count(StepKind::kRun, now.run - counted_steps_.run);
  count(StepKind::kRecorded, now.recorded - counted_steps_.recorded);
  count(StepKind::kRepeated, now.repeated - counted_steps_.repeated);
  count(StepKind::kRefused, now.refused - counted_steps_.refused);
  if (now.refused > 0 && counted_steps_.refused == 0) {
    LogWarning(
        "the device refused a record of a decode step: such steps are asked "
        "for op by op, at the same results: {}",
        backend_->repeat_refusal().message());
  }
  counted_steps_ = now;
}

bool Engine::RemoveDone() {
  bool any = false;
  for (auto it = running_.begin(); it != running_.end();) {
    if (!(*it)->done()) {
      ++it;
      continue;
    }
    {
      MutexLock lock(&mutex_);
      --running_requests_;
      UpdateGauges();
    }
    it = running_.erase(it);  // tells the consumer
    any = true;
  }
  if (any) UpdatePlannedBytes();
  return any;
}

void Engine::DropAll() {
  const absl::Status status =
      absl::CancelledError("the inference service stopped");
  std::list<std::unique_ptr<GenerationTask>> dropped;
  {
    MutexLock lock(&mutex_);
    dropped.swap(waiting_);
    running_requests_ -= static_cast<int>(running_.size());
    UpdateGauges();
  }
  for (auto& task : running_) task->Fail(status);
  for (auto& task : dropped) task->Fail(status);
  running_.clear();
}

bool Engine::stopping() const {
  MutexLock lock(&mutex_);
  return stopping_;
}

void Engine::UpdateGauges() {
  const int waiting = static_cast<int>(waiting_.size()) + waiting_tasks_;
  metrics_->requests_queued->Set(waiting);
  metrics_->requests_running->Set(running_requests_);
  if (waiting == 0 && running_requests_ == 0) idle_.NotifyAll();
}

}  // namespace sinklora::inference
