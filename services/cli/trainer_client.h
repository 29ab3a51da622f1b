// TrainingService as plain functions. Thread-safe. Errors are those of the
// service, or kUnavailable and kDeadlineExceeded of the way there.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_TRAINER_CLIENT_H_
#define SINKLORA_SERVICES_CLI_TRAINER_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/cli/interrupt.h"
#include "sinklora/trainer/v1/training_service.pb.h"

namespace sinklora::cli {

class TrainerClient {
 public:
  // Connects at the first call. Borrows `interrupt`.
  static std::unique_ptr<TrainerClient> Create(const std::string& address,
                                               Interrupt* interrupt);
  virtual ~TrainerClient() = default;

  virtual absl::StatusOr<trainer::v1::TrainingJob> CreateJob(
      const trainer::v1::CreateTrainingJobRequest& request) = 0;
  virtual absl::StatusOr<trainer::v1::TrainingJob> GetJob(
      const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<trainer::v1::TrainingJob>> ListJobs() = 0;
  virtual absl::StatusOr<trainer::v1::TrainingJob> CancelJob(
      const trainer::v1::CancelTrainingJobRequest& request) = 0;
  virtual absl::StatusOr<std::vector<trainer::v1::Checkpoint>> ListCheckpoints(
      const std::string& job) = 0;
  // One connection: ends with the job (OK) or with the connection's error.
  virtual absl::Status WatchJob(
      const trainer::v1::WatchTrainingJobRequest& request,
      const std::function<void(const trainer::v1::JobEvent&)>& on_event) = 0;
};

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_TRAINER_CLIENT_H_
