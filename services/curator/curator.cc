// SPDX-License-Identifier: Apache-2.0
#include "services/curator/curator.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "common/base/status.h"
#include "services/curator/curator_core.h"
#include "services/curator/curator_service.h"
#include "services/curator/metrics.h"
#include "services/curator/registry_client.h"

namespace sinklora::curator {
namespace {

class CuratorProcess final : public Curator {
 public:
  explicit CuratorProcess(const CuratorOptions& options)
      : metrics_(options.metrics), registry_(options.registry_address) {}

  absl::Status Open(const CuratorOptions& options) {
    const int threads =
        options.threads > 0
            ? options.threads
            : std::max(1,
                       static_cast<int>(std::thread::hardware_concurrency()));
    SL_ASSIGN_OR_RETURN(core_,
                        CuratorCore::Create({.data_dir = options.data_dir,
                                             .threads = threads,
                                             .models = &registry_,
                                             .metrics = &metrics_,
                                             .disk = options.disk,
                                             .clock = options.clock}));
    service_ = std::make_unique<CuratorServiceImpl>(
        RpcContext{.service = "CuratorService",
                   .executor = options.executor,
                   .metrics = options.metrics},
        core_.get(), options.max_source_bytes);
    return absl::OkStatus();
  }

  grpc::Service* service() override { return service_.get(); }
  void Stop() override { core_->Stop(); }

 private:
  CuratorMetrics metrics_;
  RegistryClient registry_;
  std::unique_ptr<CuratorCore> core_;
  std::unique_ptr<CuratorServiceImpl> service_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Curator>> Curator::Create(
    CuratorOptions options) {
  if (options.data_dir.empty() || options.registry_address == nullptr ||
      options.metrics == nullptr || options.executor == nullptr ||
      options.disk == nullptr || options.clock == nullptr ||
      options.threads < 0) {
    return absl::InvalidArgumentError(fmt::format(
        "curator needs data_dir (\"{}\"), registry_address, metrics, executor, "
        "disk, clock and threads >= 0 ({})",
        options.data_dir, options.threads));
  }
  auto curator = std::make_unique<CuratorProcess>(options);
  SL_RETURN_IF_ERROR(curator->Open(options));
  return curator;
}

}  // namespace sinklora::curator
