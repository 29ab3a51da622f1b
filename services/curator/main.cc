// sinklora-curator: imports sources, builds and streams datasets.
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
#include "services/curator/curator.h"

ABSL_FLAG(std::string, data_dir, "",
          "Directory of sources and datasets; created when absent. Required.");
ABSL_FLAG(std::string, registry, "127.0.0.1:7071",
          "host:port of the RegistryService that tokenizers come from.");
ABSL_FLAG(int, threads, 0, "Threads of one curation; 0: one a core.");
ABSL_FLAG(int64_t, disk_reserve_bytes, sinklora::kDefaultDiskReserveBytes,
          "Bytes of the data directory's disk that imports, curations and "
          "exports leave free.");

namespace {

class HostedCurator final : public sinklora::HostedService {
 public:
  HostedCurator(std::unique_ptr<sinklora::DiskBudget> disk,
                std::unique_ptr<sinklora::curator::Curator> curator)
      : disk_(std::move(disk)), curator_(std::move(curator)) {}
  std::vector<grpc::Service*> grpc_services() override {
    return {curator_->service()};
  }
  void OnStop() override { curator_->Stop(); }

 private:
  const std::unique_ptr<sinklora::DiskBudget> disk_;
  const std::unique_ptr<sinklora::curator::Curator> curator_;
};

absl::StatusOr<std::unique_ptr<sinklora::HostedService>> MakeCurator(
    const sinklora::ProcessEnv& env) {
  const std::string registry = absl::GetFlag(FLAGS_registry);
  SL_ASSIGN_OR_RETURN(auto disk, sinklora::DiskBudget::Create(
                                     absl::GetFlag(FLAGS_data_dir),
                                     absl::GetFlag(FLAGS_disk_reserve_bytes)));
  SL_ASSIGN_OR_RETURN(auto curator,
                      sinklora::curator::Curator::Create(
                          {.data_dir = absl::GetFlag(FLAGS_data_dir),
                           .registry_address = [registry] { return registry; },
                           .threads = absl::GetFlag(FLAGS_threads),
                           .metrics = env.metrics,
                           .executor = env.executor,
                           .disk = disk.get()}));
  return std::make_unique<HostedCurator>(std::move(disk), std::move(curator));
}

}  // namespace

int main(int argc, char** argv) {
  return sinklora::RunProcess(
      argc, argv,
      {.usage = "sinklora-curator: imports sources, builds and streams "
                "datasets.\nexample: sinklora-curator --data-dir=data "
                "--registry=127.0.0.1:7071",
       .listen = "127.0.0.1:7070"},
      MakeCurator);
}
