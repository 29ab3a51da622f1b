// SPDX-License-Identifier: Apache-2.0
#include "services/worker/metrics.h"

namespace sinklora::worker {
namespace {

constexpr char kJobs[] = "sinklora_worker_jobs_total";
constexpr char kJobsHelp[] = "Jobs this worker held, by how that ended.";

}  // namespace

WorkerMetrics::WorkerMetrics(MetricsRegistry* registry, int index)
    : labels_({{"worker", std::to_string(index)}}),
      step_seconds_(registry->GetHistogram(
          "sinklora_worker_step_duration_seconds",
          "Duration of an optimizer step, validation left out.",
          LatencyBuckets(), labels_)),
      checkpoint_seconds_(registry->GetHistogram(
          "sinklora_worker_checkpoint_duration_seconds",
          "Duration of a checkpoint: saving, upload, commit.", LatencyBuckets(),
          labels_)),
      tokens_(registry->GetCounter("sinklora_worker_tokens_total",
                                   "Tokens trained on.", labels_)),
      leases_lost_(registry->GetCounter(
          "sinklora_worker_leases_lost_total",
          "Jobs dropped because their lease was lost.", labels_)),
      devices_(registry->GetGauge(
          "sinklora_worker_devices",
          "Devices that share the micro-steps of a job.", labels_)),
      group_(registry->GetGauge(
          "sinklora_worker_group_workers",
          "Workers that train the current job together; 0 without a job.",
          labels_)),
      tokens_per_second_(
          registry->GetGauge("sinklora_worker_tokens_per_second",
                             "Tokens per second of the last step.", labels_)),
      loss_(registry->GetGauge(
          "sinklora_worker_loss",
          "Training loss of the last step, nats per supervised token.",
          labels_)),
      validation_loss_(registry->GetGauge(
          "sinklora_worker_validation_loss",
          "Last validation loss, nats per supervised token.", labels_)),
      learning_rate_(registry->GetGauge("sinklora_worker_learning_rate",
                                        "Learning rate of the last step.",
                                        labels_)),
      gradient_norm_(registry->GetGauge(
          "sinklora_worker_gradient_norm",
          "Gradient norm of the last step, unclipped.", labels_)),
      registry_(registry) {
  for (const char* outcome : {"succeeded", "failed", "cancelled", "followed",
                              "released", "abandoned"}) {
    Jobs(outcome);
  }
}

Counter* WorkerMetrics::Jobs(const std::string& outcome) {
  Labels labels = labels_;
  labels["outcome"] = outcome;
  return registry_->GetCounter(kJobs, kJobsHelp, labels);
}

void WorkerMetrics::SetDevices(size_t count) {
  devices_->Set(static_cast<double>(count));
}

void WorkerMetrics::SetGroup(int workers) {
  group_->Set(static_cast<double>(workers));
}

void WorkerMetrics::StepDone(const trainer::v1::TrainingMetrics& metrics,
                             int64_t tokens) {
  step_seconds_->Observe(metrics.step_seconds());
  tokens_->Increment(static_cast<double>(tokens));
  tokens_per_second_->Set(metrics.tokens_per_second());
  loss_->Set(metrics.loss());
  learning_rate_->Set(metrics.learning_rate());
  gradient_norm_->Set(metrics.gradient_norm());
  if (metrics.has_validation_loss()) {
    validation_loss_->Set(metrics.validation_loss());
  }
}

void WorkerMetrics::CheckpointDone(double seconds) {
  checkpoint_seconds_->Observe(seconds);
}

void WorkerMetrics::JobDone(const std::string& outcome) {
  Jobs(outcome)->Increment();
}

void WorkerMetrics::LeaseLost() { leases_lost_->Increment(); }

}  // namespace sinklora::worker
