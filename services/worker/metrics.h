// Metric families of one worker. `worker` is its number in its process: several
// share a registry. Thread-safe. Borrows the registry.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_WORKER_METRICS_H_
#define SINKLORA_SERVICES_WORKER_METRICS_H_

#include <string>

#include "common/metrics/metrics.h"
#include "sinklora/trainer/v1/training_service.pb.h"

namespace sinklora::worker {

class WorkerMetrics {
 public:
  // All families exist from the start, so that a scrape shows zeros.
  WorkerMetrics(MetricsRegistry* registry, int index);

  void SetDevices(size_t count);
  // Workers that train the job of this one, 0 while it has none.
  void SetGroup(int workers);
  // `tokens`: of this step alone.
  void StepDone(const trainer::v1::TrainingMetrics& metrics, int64_t tokens);
  void CheckpointDone(double seconds);
  // `outcome`: as RunJob returns it.
  void JobDone(const std::string& outcome);
  void LeaseLost();

 private:
  Counter* Jobs(const std::string& outcome);

  const Labels labels_;
  Histogram* const step_seconds_;
  Histogram* const checkpoint_seconds_;
  Counter* const tokens_;
  Counter* const leases_lost_;
  Gauge* const devices_;
  Gauge* const group_;
  Gauge* const tokens_per_second_;
  Gauge* const loss_;
  Gauge* const validation_loss_;
  Gauge* const learning_rate_;
  Gauge* const gradient_norm_;
  MetricsRegistry* const registry_;
};

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_METRICS_H_
