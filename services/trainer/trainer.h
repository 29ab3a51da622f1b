// The trainer as a whole: job queue, leases and registry on one data
// directory, behind three RPC services.
//
//   data_dir/state/      rows (RocksDB; one process at a time)
//   data_dir/models, adapters, jobs, staging: see ArtifactStore
//
// Thread-safe. Borrows executor, metrics, clock and disk. The services must be
// out of their server (drained) before the Trainer is destroyed.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_TRAINER_H_
#define SINKLORA_SERVICES_TRAINER_TRAINER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/disk_budget.h"
#include "common/base/executor.h"
#include "common/metrics/metrics.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace sinklora::trainer {

struct TrainerOptions {
  std::string data_dir;
  // Directory that clients may import from by path; empty: none.
  std::string import_root;
  // What merges are verified on: as kernels::OpenBackend.
  std::string device = "cpu";
  int threads = 0;  // 0: the machine's cores
  // host:port of the CuratorService, asked for at every use.
  std::function<std::string()> curator_address;
  MetricsRegistry* metrics = nullptr;
  Executor* executor = nullptr;
  Clock* clock = RealClock();
  double lease_ttl_seconds = 15;
  int max_attempts = 5;
  DiskBudget* disk = nullptr;  // of data_dir
};

class Trainer {
 public:
  // Opens the data directory (made when absent), removes what a crash left
  // behind, starts looking for expired leases.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(
      const TrainerOptions& options);
  virtual ~Trainer() = default;

  // TrainingService, WorkerService, RegistryService. Owned by the Trainer.
  virtual std::vector<grpc::Service*> services() = 0;
  // Ends watch streams and the lease sweep, so that the server can drain.
  // Idempotent; other calls go on working.
  virtual void Stop() = 0;
};

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_TRAINER_H_
