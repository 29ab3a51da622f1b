// sinklora-trainer: job queue, leases for workers, registry.
//
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "common/base/disk_budget.h"
#include "common/base/status.h"
#include "common/rpc/process.h"
#include "services/trainer/trainer.h"

ABSL_FLAG(std::string, data_dir, "", "directory of all state; required");
ABSL_FLAG(std::string, curator, "127.0.0.1:7070",
          "host:port of the curator service");
ABSL_FLAG(std::string, import_root, "",
          "directory of this machine that clients may import models and "
          "adapters from by path; empty: imports are uploads only");
ABSL_FLAG(std::string, device, "cpu",
          "what exports are verified on: auto, cpu, cuda:N or reference");
ABSL_FLAG(int, threads, 0,
          "threads that verify an export; 0: all cores of the machine");
ABSL_FLAG(double, lease_ttl_seconds, 15,
          "seconds a worker keeps a job without renewing its lease");
ABSL_FLAG(int64_t, disk_reserve_bytes, sinklora::kDefaultDiskReserveBytes,
          "bytes of the data directory's disk that uploads leave free");

namespace sinklora::trainer {
namespace {

class Process final : public HostedService {
 public:
  Process(std::unique_ptr<DiskBudget> disk, std::unique_ptr<Trainer> trainer)
      : disk_(std::move(disk)), trainer_(std::move(trainer)) {}
  std::vector<grpc::Service*> grpc_services() override {
    return trainer_->services();
  }
  void OnStop() override { trainer_->Stop(); }

 private:
  const std::unique_ptr<DiskBudget> disk_;
  const std::unique_ptr<Trainer> trainer_;
};

absl::StatusOr<std::unique_ptr<HostedService>> Start(const ProcessEnv& env) {
  TrainerOptions options;
  options.data_dir = absl::GetFlag(FLAGS_data_dir);
  if (options.data_dir.empty()) {
    return absl::InvalidArgumentError("--data-dir is required");
  }
  options.device = absl::GetFlag(FLAGS_device);
  options.threads = absl::GetFlag(FLAGS_threads);
  options.import_root = absl::GetFlag(FLAGS_import_root);
  options.curator_address = [address = absl::GetFlag(FLAGS_curator)] {
    return address;
  };
  options.metrics = env.metrics;
  options.executor = env.executor;
  options.lease_ttl_seconds = absl::GetFlag(FLAGS_lease_ttl_seconds);
  SL_ASSIGN_OR_RETURN(
      auto disk, DiskBudget::Create(options.data_dir,
                                    absl::GetFlag(FLAGS_disk_reserve_bytes)));
  options.disk = disk.get();
  SL_ASSIGN_OR_RETURN(auto trainer, Trainer::Create(options));
  return std::make_unique<Process>(std::move(disk), std::move(trainer));
}

}  // namespace
}  // namespace sinklora::trainer

int main(int argc, char** argv) {
  sinklora::ProcessOptions options;
  options.usage =
      "sinklora-trainer: keeps training jobs, models and adapters\n"
      "example: sinklora-trainer --data-dir=data --curator=127.0.0.1:7070";
  options.listen = "127.0.0.1:7071";
  return sinklora::RunProcess(argc, argv, options, sinklora::trainer::Start);
}
