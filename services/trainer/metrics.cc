// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/metrics.h"

namespace sinklora::trainer {
namespace {

using trainer::v1::JobState;

constexpr char kJobs[] = "sinklora_trainer_jobs";
constexpr char kJobsHelp[] = "Training jobs by state.";
constexpr char kEnded[] = "sinklora_trainer_jobs_ended_total";
constexpr char kEndedHelp[] = "Training jobs that ended, by final state.";
constexpr char kExpiries[] = "sinklora_trainer_lease_expiries_total";
constexpr char kExpiriesHelp[] = "Leases that expired without renewal.";
constexpr char kStale[] = "sinklora_trainer_stale_writes_rejected_total";
constexpr char kStaleHelp[] =
    "Writes of workers refused because their lease epoch is old.";
constexpr char kCheckpoints[] = "sinklora_trainer_checkpoints_total";
constexpr char kCheckpointsHelp[] = "Checkpoints committed.";
constexpr char kCheckpointBytes[] = "sinklora_trainer_checkpoint_bytes_total";
constexpr char kCheckpointBytesHelp[] = "Bytes of committed checkpoints.";
constexpr char kModels[] = "sinklora_registry_models";
constexpr char kModelsHelp[] = "Models in the registry.";
constexpr char kAdapters[] = "sinklora_registry_adapters";
constexpr char kAdaptersHelp[] = "Adapters in the registry.";
constexpr char kLoss[] = "sinklora_trainer_job_loss";
constexpr char kLossHelp[] =
    "Training loss of the last reported step of an active job, in nats.";
constexpr char kStep[] = "sinklora_trainer_job_step";
constexpr char kStepHelp[] = "Optimizer steps an active job has done.";

constexpr JobState kStates[] = {
    trainer::v1::JOB_STATE_QUEUED, trainer::v1::JOB_STATE_RUNNING,
    trainer::v1::JOB_STATE_SUCCEEDED, trainer::v1::JOB_STATE_FAILED,
    trainer::v1::JOB_STATE_CANCELLED};

}  // namespace

std::string JobStateName(JobState state) {
  switch (state) {
    case trainer::v1::JOB_STATE_QUEUED:
      return "queued";
    case trainer::v1::JOB_STATE_RUNNING:
      return "running";
    case trainer::v1::JOB_STATE_SUCCEEDED:
      return "succeeded";
    case trainer::v1::JOB_STATE_FAILED:
      return "failed";
    case trainer::v1::JOB_STATE_CANCELLED:
      return "cancelled";
    default:
      return "unknown";
  }
}

TrainerMetrics::TrainerMetrics(MetricsRegistry* registry)
    : registry_(registry) {
  for (const JobState state : kStates) AddJobs(state, 0);
  for (const JobState state :
       {trainer::v1::JOB_STATE_SUCCEEDED, trainer::v1::JOB_STATE_FAILED,
        trainer::v1::JOB_STATE_CANCELLED}) {
    registry_->GetCounter(kEnded, kEndedHelp, {{"state", JobStateName(state)}});
  }
  registry_->GetCounter(kExpiries, kExpiriesHelp);
  registry_->GetCounter(kStale, kStaleHelp);
  registry_->GetCounter(kCheckpoints, kCheckpointsHelp);
  registry_->GetCounter(kCheckpointBytes, kCheckpointBytesHelp);
}

void TrainerMetrics::AddJobs(JobState state, int by) {
  registry_->GetGauge(kJobs, kJobsHelp, {{"state", JobStateName(state)}})
      ->Add(by);
}

void TrainerMetrics::JobEnded(JobState state) {
  registry_->GetCounter(kEnded, kEndedHelp, {{"state", JobStateName(state)}})
      ->Increment();
}

void TrainerMetrics::LeaseExpired() {
  registry_->GetCounter(kExpiries, kExpiriesHelp)->Increment();
}

void TrainerMetrics::StaleWriteRejected() {
  registry_->GetCounter(kStale, kStaleHelp)->Increment();
}

void TrainerMetrics::CheckpointCommitted(int64_t size_bytes) {
  registry_->GetCounter(kCheckpoints, kCheckpointsHelp)->Increment();
  registry_->GetCounter(kCheckpointBytes, kCheckpointBytesHelp)
      ->Increment(static_cast<double>(size_bytes));
}

void TrainerMetrics::SetModels(int64_t count) {
  registry_->GetGauge(kModels, kModelsHelp)->Set(static_cast<double>(count));
}

void TrainerMetrics::SetAdapters(int64_t count) {
  registry_->GetGauge(kAdapters, kAdaptersHelp)
      ->Set(static_cast<double>(count));
}

void TrainerMetrics::SetJobProgress(const std::string& job, double loss,
                                    int64_t step) {
  registry_->GetGauge(kLoss, kLossHelp, {{"job", job}})->Set(loss);
  registry_->GetGauge(kStep, kStepHelp, {{"job", job}})
      ->Set(static_cast<double>(step));
}

void TrainerMetrics::RemoveJob(const std::string& job) {
  registry_->RemoveGauge(kLoss, {{"job", job}});
  registry_->RemoveGauge(kStep, {{"job", job}});
}

}  // namespace sinklora::trainer
