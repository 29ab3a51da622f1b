// RPC face of training jobs for clients: thin handlers over JobManager.
// Thread-safe. Borrows the manager, which must outlive the server.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_TRAINING_SERVICE_H_
#define SINKLORA_SERVICES_TRAINER_TRAINING_SERVICE_H_

#include <memory>

#include "common/base/executor.h"
#include "common/metrics/metrics.h"
#include "services/trainer/job_manager.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace sinklora::trainer {

std::unique_ptr<grpc::Service> MakeTrainingService(JobManager* jobs,
                                                   Executor* executor,
                                                   MetricsRegistry* metrics);

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_TRAINING_SERVICE_H_
