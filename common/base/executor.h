// Bounded thread pool on which RPC handlers do their (possibly blocking) work:
// gRPC's own callback threads are few and shared by every service, so nothing
// may block on them.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_EXECUTOR_H_
#define SINKLORA_COMMON_BASE_EXECUTOR_H_

#include <functional>
#include <memory>
#include <string>

namespace sinklora {

// Thread-safe.
class Executor {
 public:
  struct Options {
    std::string name = "executor";
    // Threads are started on demand up to this number and kept. 0: tasks run
    // inline in Submit (tests).
    int max_threads = 64;
    // Tasks waiting beyond the running ones before Submit refuses.
    int max_queued = 1024;
  };
  static std::unique_ptr<Executor> Create(const Options& options);

  virtual ~Executor() = default;
  // Queues `task`. False (and the task is dropped) when the queue is full or
  // Shutdown was called.
  [[nodiscard]] virtual bool Submit(std::function<void()> task) = 0;
  // Refuses new tasks, runs the queued ones, joins all threads. Idempotent.
  virtual void Shutdown() = 0;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_BASE_EXECUTOR_H_
