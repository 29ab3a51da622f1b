// The curator as a whole: data directory, registry client, service. What
// main.cc and the one-process program run.
//
//   SL_ASSIGN_OR_RETURN(auto curator, Curator::Create({...}));
//   RpcServer::Create(..., {curator->service()});  ...
//   curator->Stop();  server->Drain(...);  // and only then destroy the curator
//
// Thread-safe after Create.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_CURATOR_H_
#define SINKLORA_SERVICES_CURATOR_CURATOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/disk_budget.h"
#include "common/base/executor.h"
#include "common/metrics/metrics.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace sinklora::curator {

struct CuratorOptions {
  // Everything the curator keeps; created when absent. One process at a time.
  std::string data_dir;
  // host:port of the RegistryService, asked for at each call; empty while it is
  // not known yet (curations fail with kUnavailable then). Thread-safe.
  std::function<std::string()> registry_address;
  // Threads of one curation; 0: one a core.
  int threads = 0;
  // Largest upload of one source.
  int64_t max_source_bytes = int64_t{64} << 30;
  // Borrowed, must outlive the curator.
  MetricsRegistry* metrics = nullptr;
  Executor* executor = nullptr;
  DiskBudget* disk = nullptr;  // of data_dir
  Clock* clock = RealClock();
};

class Curator {
 public:
  // kInvalidArgument for missing options; kFailedPrecondition when another
  // process has data_dir open.
  static absl::StatusOr<std::unique_ptr<Curator>> Create(
      CuratorOptions options);
  virtual ~Curator() = default;

  virtual grpc::Service* service() = 0;
  // Ends running imports, curations and exports at their next step with
  // kCancelled. Idempotent.
  virtual void Stop() = 0;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_CURATOR_H_
