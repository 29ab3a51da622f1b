// Metric families of the trainer process. Thread-safe. Borrows the registry.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_METRICS_H_
#define SINKLORA_SERVICES_TRAINER_METRICS_H_

#include <cstdint>
#include <string>

#include "common/metrics/metrics.h"
#include "sinklora/trainer/v1/training_service.pb.h"

namespace sinklora::trainer {

class TrainerMetrics {
 public:
  // All families exist from the start, so that a scrape shows zeros.
  explicit TrainerMetrics(MetricsRegistry* registry);

  void AddJobs(trainer::v1::JobState state, int by);
  void JobEnded(trainer::v1::JobState state);
  void LeaseExpired();
  void StaleWriteRejected();
  void CheckpointCommitted(int64_t size_bytes);
  void SetModels(int64_t count);
  void SetAdapters(int64_t count);
  // Progress of a job that runs. The job is a label only while it is active.
  void SetJobProgress(const std::string& job, double loss, int64_t step);
  void RemoveJob(const std::string& job);

 private:
  MetricsRegistry* const registry_;
};

// "queued", "running", ...: label values and messages.
std::string JobStateName(trainer::v1::JobState state);

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_METRICS_H_
