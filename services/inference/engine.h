// The one thread that owns the backend: everything that touches the device
// runs on it, in turns.
//
// A turn does at most one queued task (a load, a score, the release of device
// memory), then one step of every running generation: a chunk of its prompt,
// or one new token, which is decoded for all of one target at once so that
// their weights are read once. A generation whose consumer is slow is left out
// until it catches up; one that was cancelled ends at its next turn. An error,
// or an exception (no memory on the host), ends the generation or task it
// belongs to and nothing else.
//
// A generation starts when what it takes at most (PlanSequence) fits in the
// device's memory beside the weights and what runs; until then it waits, and
// those behind it with it. One that would not fit by itself is refused:
// kResourceExhausted with reason MEMORY and the numbers.
//
// Thread-safety: all methods from any thread but the engine's own, unless said
// otherwise. The engine must outlive the targets made with its backend: their
// release runs on it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_ENGINE_H_
#define SINKLORA_SERVICES_INFERENCE_ENGINE_H_

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/model/inference_model.h"
#include "kernels/backend.h"
#include "services/inference/generation.h"
#include "services/inference/generation_task.h"
#include "services/inference/metrics.h"
#include "services/inference/wake_signal.h"

namespace sinklora::inference {

struct EngineLimits {
  int max_running_requests = 16;   // generations with a cache at once, >= 1
  int max_waiting_requests = 64;   // generations and scores in the queue, >= 0
  int prefill_chunk_tokens = 512;  // of the prompt in one step, >= 1
  int max_pending_deltas = 64;     // not yet taken by the consumer, >= 1
  // Device memory for weights and running generations; 0: nine tenths of what
  // the device has.
  int64_t max_memory_bytes = 0;
};

class Engine {
 public:
  // kInvalidArgument for a limit out of range. Borrows `metrics`, `clock`.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineLimits& limits, std::unique_ptr<kernels::Backend> backend,
      InferenceMetrics* metrics, Clock* clock);
  // Ends what is queued and running as cancelled, joins the thread.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues a generation. kResourceExhausted with the limit when the queue is
  // full, kUnavailable after Drain.
  absl::StatusOr<std::unique_ptr<Generation>> Submit(GenerationRequest request);

  using Task = std::function<absl::Status(kernels::Backend*)>;
  // Runs a request's task on the engine and waits for it. Same errors as
  // Submit.
  absl::Status Run(const Task& task);
  // The same for the service's own work, which no limit refuses.
  absl::Status RunInternal(const Task& task);
  // Queues work without waiting, e.g. the release of device memory. From any
  // thread.
  void Post(std::function<void()> work);

  // kUnavailable after Drain; counts as a request refused.
  absl::Status CheckAccepting() const;
  // Refuses new requests from now on. Those accepted go on.
  void Drain();
  // Waits until no request is queued or running.
  void WaitUntilIdle();

 private:
  struct QueuedTask {
    std::function<void()> run;
    bool counted = false;  // a request's: it counts against the limits
  };
  Engine(const EngineLimits& limits, std::unique_ptr<kernels::Backend> backend,
         InferenceMetrics* metrics, Clock* clock);
  // Whether the queue takes another request.
  absl::Status CheckAdmission() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckAcceptingLocked() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RunAndWait(const Task& task, bool counted);

  void Loop();
  // True when anything was done.
  bool Turn();
  bool RunOneTask();
  bool AdmitWaiting();
  // Memory that generations which start now may take.
  int64_t FreeBytes() const;
  absl::Status MemoryError(const GenerationTask& task) const;
  void UpdatePlannedBytes();
  bool StepRunning();
  // The next chunk of the prompt and, behind the last one, the first token.
  void Prefill(GenerationTask* task);
  // One new token for each of `tasks`.
  void DecodeTogether(std::span<GenerationTask* const> tasks);
  // Counts how the device was asked for steps since the last call.
  void CountSteps();
  // Replaces those of `tokens` that are OK by what is sampled from the logits
  // of their tasks, in one op.
  void SampleTogether(std::span<GenerationTask* const> tasks,
                      std::span<absl::StatusOr<int32_t>> tokens);
  // Calls a part of `task`, which fails when that throws.
  template <typename Part>
  static void Advance(GenerationTask* task, const Part& part);
  // Ends the tasks that are done; whether there were any.
  bool RemoveDone();
  void DropAll();
  bool stopping() const;
  void UpdateGauges() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const EngineLimits limits_;  // resolved
  const std::unique_ptr<kernels::Backend> backend_;
  const std::unique_ptr<BatchDecoder> decoder_;  // engine thread only
  kernels::RepeatCounts counted_steps_;          // engine thread only
  InferenceMetrics* const metrics_;
  Clock* const clock_;
  const std::shared_ptr<WakeSignal> wake_;

  mutable Mutex mutex_;
  CondVar idle_;
  std::deque<QueuedTask> tasks_ ABSL_GUARDED_BY(mutex_);
  // Lists: a generation moves from one to the other without allocating.
  std::list<std::unique_ptr<GenerationTask>> waiting_ ABSL_GUARDED_BY(mutex_);
  int waiting_tasks_ ABSL_GUARDED_BY(mutex_) = 0;  // counted ones in tasks_
  int running_requests_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::list<std::unique_ptr<GenerationTask>> running_;  // engine thread only
  std::thread thread_;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_ENGINE_H_
