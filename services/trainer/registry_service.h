// RPC face of the registry: thin handlers over Registry; deletion of models
// goes by JobManager, which knows the jobs that need them.
// Thread-safe. Borrows everything in its options, which must outlive the
// server.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_REGISTRY_SERVICE_H_
#define SINKLORA_SERVICES_TRAINER_REGISTRY_SERVICE_H_

#include <memory>

#include "common/base/executor.h"
#include "common/metrics/metrics.h"
#include "services/trainer/artifact_store.h"
#include "services/trainer/exporter.h"
#include "services/trainer/import_root.h"
#include "services/trainer/job_manager.h"
#include "services/trainer/registry.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace sinklora::trainer {

// All required.
struct RegistryServiceOptions {
  Registry* registry = nullptr;
  JobManager* jobs = nullptr;
  const ArtifactStore* artifacts = nullptr;
  const ImportRoot* import_root = nullptr;
  Exporter* exporter = nullptr;
  Executor* executor = nullptr;
  MetricsRegistry* metrics = nullptr;
};

std::unique_ptr<grpc::Service> MakeRegistryService(
    const RegistryServiceOptions& options);

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_REGISTRY_SERVICE_H_
