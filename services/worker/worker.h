// A worker: asks the trainer for jobs and runs them, one at a time, on its
// device or, data-parallel, on all of its devices, alone or with other workers.
//
// Thread-safe. Borrows metrics and clock.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_WORKER_WORKER_H_
#define SINKLORA_SERVICES_WORKER_WORKER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/metrics/metrics.h"

namespace sinklora::worker {

struct WorkerOptions {
  std::string worker_id;  // stable name, no other worker's; 1 to 128 bytes
  int index = 0;  // among the workers of this process; their metric label
  // host:port, asked for at every use: in one process the port is known only
  // after everything has started. The registry is at the trainer's.
  std::function<std::string()> trainer_address;
  std::function<std::string()> curator_address;
  std::string cache_dir;         // of this worker alone
  std::string device = "auto";   // as ParseDevices of common/model/device.h
  int threads = 0;               // 0: the cores this process may run on
  std::string cpu_isa = "auto";  // as kernels::BackendOptions; the process's
  // Takes part in jobs of several workers, where its devices can.
  bool join_groups = true;
  MetricsRegistry* metrics = nullptr;
  Clock* clock = RealClock();
};

class Worker {
 public:
  // Opens the devices and the cache directory (made when absent).
  static absl::StatusOr<std::unique_ptr<Worker>> Create(
      const WorkerOptions& options);
  virtual ~Worker() = default;  // stops

  // Starts asking for jobs. Once.
  virtual void Start() = 0;
  // Tells a running job to stop after its micro-step. Does not block.
  virtual void RequestStop() = 0;
  // RequestStop(), then waits until the job has committed a checkpoint and is
  // given back (when the trainer can be reached; else its lease lapses).
  // Another attempt goes on from there. Idempotent.
  virtual void Stop() = 0;
};

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_WORKER_H_
