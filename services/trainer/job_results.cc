// The half of JobManager that takes what workers hand in: checkpoints and the
// end of a job. Of a job of several workers that is seat 0's.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <optional>
#include <utility>

#include "common/base/log.h"
#include "common/base/status.h"
#include "services/trainer/artifact_checks.h"
#include "services/trainer/job_manager.h"
#include "services/trainer/rows.h"

namespace sinklora::trainer {

using trainer::v1::Checkpoint;
using trainer::v1::Lease;
using trainer::v1::TrainingJob;

namespace {

constexpr size_t kKeptCheckpoints = 2;

int64_t TotalBytes(const FileInfos& files) {
  int64_t total_bytes = 0;
  for (const auto& file : files) total_bytes += file.size_bytes();
  return total_bytes;
}

registry::v1::Lineage LineageOf(const TrainingJob& job) {
  registry::v1::Lineage lineage;
  lineage.set_job(job.name());
  lineage.set_dataset(job.resolved().dataset());
  lineage.set_dataset_digest(job.dataset_digest());
  *lineage.mutable_recipe() = job.resolved();
  return lineage;
}

absl::Status OnlyFirstSeat(const Lease& lease, const std::string& what) {
  if (lease.seat() == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("lease.seat is {}, must be 0 to {}", lease.seat(), what));
}

}  // namespace

absl::StatusOr<Checkpoint> JobManager::CommitCheckpoint(
    const trainer::v1::CommitCheckpointHeader& header,
    const std::string& staged_dir, const FileInfos& files) {
  SL_RETURN_IF_ERROR(OnlyFirstSeat(header.lease(), "commit a checkpoint"));
  if (header.step() < 1 || files.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("header.step is {} (allowed >= 1), files are {} (>= 1)",
                    header.step(), files.size()));
  }
  SL_RETURN_IF_ERROR(CheckCheckpoint(staged_dir, files, header.step()));
  const int64_t arrived_micros = Now();
  Trash trash(options_.artifacts);
  MutexLock lock(&mutex_);
  SL_ASSIGN_OR_RETURN(const JobRecord* record,
                      Fence(header.lease(), arrived_micros));
  const std::string name = record->job.name();
  SL_ASSIGN_OR_RETURN(const auto stored, LoadCheckpoints(options_.store, name));
  for (const Checkpoint& checkpoint : stored) {
    if (checkpoint.step() == header.step()) return checkpoint;
  }
  Checkpoint checkpoint;
  checkpoint.set_step(header.step());
  checkpoint.set_attempt(record->job.attempt());
  checkpoint.mutable_files()->Assign(files.begin(), files.end());
  *checkpoint.mutable_create_time() = ToTimestamp(options_.clock->WallMicros());

  JobChange change = Change(*record);
  change.AddCheckpoint(checkpoint);
  change.job().set_lost_attempts(0);
  std::vector<std::string> outdated;
  for (size_t i = 0; i + kKeptCheckpoints <= stored.size(); ++i) {
    change.batch().Delete(CheckpointKey(name, stored[i].step()));
    outdated.push_back(
        options_.artifacts->CheckpointDir(name, stored[i].step()));
  }
  const std::string dir =
      options_.artifacts->CheckpointDir(name, header.step());
  SL_RETURN_IF_ERROR(MakeDirs(options_.artifacts->JobDir(name)));
  // No row names this directory: whatever is there was left by a failed write.
  trash.Take(dir);
  // Quick: what was uploaded is on the disk already (FileWriter::Finish).
  SL_RETURN_IF_ERROR(CommitDirectory(staged_dir, dir));
  const absl::Status applied = Apply(std::move(change));
  if (!applied.ok()) {
    trash.Take(dir);
    return applied;
  }
  for (const std::string& old : outdated) trash.Take(old);
  options_.metrics->CheckpointCommitted(TotalBytes(files));
  return checkpoint;
}

absl::Status JobManager::DropCheckpoint(const Lease& lease, int64_t step) {
  const int64_t arrived_micros = Now();
  Trash trash(options_.artifacts);
  MutexLock lock(&mutex_);
  SL_ASSIGN_OR_RETURN(const JobRecord* record, Fence(lease, arrived_micros));
  const std::string name = record->job.name();
  SL_ASSIGN_OR_RETURN(const auto stored, LoadCheckpoints(options_.store, name));
  JobChange change = Change(*record);
  change.job().set_checkpoint_step(0);
  for (const Checkpoint& checkpoint : stored) {
    if (checkpoint.step() != step) {
      change.job().set_checkpoint_step(checkpoint.step());
    }
  }
  change.batch().Delete(CheckpointKey(name, step));
  SL_RETURN_IF_ERROR(Apply(std::move(change)));
  trash.Take(options_.artifacts->CheckpointDir(name, step));
  return absl::OkStatus();
}

absl::StatusOr<JobManager::StoredCheckpoint> JobManager::OpenCheckpoint(
    const Lease& lease, int64_t broken_step) {
  SL_RETURN_IF_ERROR(OnlyFirstSeat(lease, "get a checkpoint"));
  absl::Status broken;
  if (broken_step > 0) {
    broken = MakeError(absl::StatusCode::kDataLoss,
                       fmt::format("checkpoint {} of job {} cannot be loaded, "
                                   "and there is none before it",
                                   broken_step, lease.job()),
                       {"CHECKPOINT_BROKEN", {{"job", lease.job()}}});
    LogError("checkpoint {} of job {} cannot be loaded by its worker",
             broken_step, lease.job());
    SL_RETURN_IF_ERROR(DropCheckpoint(lease, broken_step));
  }
  std::vector<Checkpoint> checkpoints;
  {
    const int64_t arrived_micros = Now();
    MutexLock lock(&mutex_);
    SL_RETURN_IF_ERROR(Fence(lease, arrived_micros).status());
    SL_ASSIGN_OR_RETURN(checkpoints,
                        LoadCheckpoints(options_.store, lease.job()));
  }
  for (; !checkpoints.empty(); checkpoints.pop_back()) {
    StoredCheckpoint stored;
    stored.checkpoint = checkpoints.back();
    stored.dir = options_.artifacts->CheckpointDir(lease.job(),
                                                   stored.checkpoint.step());
    const auto& files = stored.checkpoint.files();
    broken = VerifyFiles(stored.dir, FileInfos(files.begin(), files.end()));
    if (broken.ok()) return stored;
    LogError(
        "checkpoint {} of job {} is broken, going back to the one "
        "before: {}",
        stored.checkpoint.step(), lease.job(), std::string(broken.message()));
    SL_RETURN_IF_ERROR(DropCheckpoint(lease, stored.checkpoint.step()));
  }
  if (!broken.ok()) return broken;
  return MakeError(absl::StatusCode::kNotFound,
                   fmt::format("job {} has no checkpoint", lease.job()),
                   {"NO_CHECKPOINT", {{"job", lease.job()}}});
}

std::optional<TrainingJob> JobManager::FinishedBefore(
    const trainer::v1::FinishJobHeader& header) {
  const auto record = Find(header.lease().job());
  if (!record.ok() || (*record)->epoch != header.lease().epoch() ||
      (*record)->job.state() != header.outcome() ||
      !IsTerminal(header.outcome())) {
    return std::nullopt;
  }
  return (*record)->job;
}

absl::StatusOr<TrainingJob> JobManager::FinishJob(
    const trainer::v1::FinishJobHeader& header, const std::string& staged_dir,
    const FileInfos& files) {
  if (!IsTerminal(header.outcome())) {
    return absl::InvalidArgumentError(fmt::format(
        "header.outcome is {}, allowed is SUCCEEDED, FAILED or CANCELLED",
        static_cast<int>(header.outcome())));
  }
  if (header.outcome() != trainer::v1::JOB_STATE_FAILED) {
    SL_RETURN_IF_ERROR(OnlyFirstSeat(header.lease(),
                                     "end a job that did not "
                                     "fail"));
  }
  if (header.outcome() == trainer::v1::JOB_STATE_SUCCEEDED) {
    return FinishSucceeded(header, staged_dir, files);
  }
  return FinishUnsuccessful(header);
}

absl::StatusOr<TrainingJob> JobManager::FinishUnsuccessful(
    const trainer::v1::FinishJobHeader& header) {
  const int64_t arrived_micros = Now();
  MutexLock lock(&mutex_);
  if (auto done = FinishedBefore(header)) return *std::move(done);
  SL_ASSIGN_OR_RETURN(const JobRecord* record,
                      Fence(header.lease(), arrived_micros));
  JobChange change = Change(*record);
  if (header.outcome() == trainer::v1::JOB_STATE_CANCELLED) {
    if (!record->job.cancel_requested()) {
      return MakeError(
          absl::StatusCode::kFailedPrecondition,
          fmt::format("job {} was not asked to cancel", record->job.name()),
          {"CANCEL_NOT_REQUESTED", {{"job", record->job.name()}}});
    }
    change.SetState(
        trainer::v1::JOB_STATE_CANCELLED,
        fmt::format("cancelled after step {}", record->job.metrics().step()));
  } else {
    if (header.error_reason().empty() || header.message().empty()) {
      return absl::InvalidArgumentError(
          "header.error_reason and header.message are required for FAILED");
    }
    change.job().set_error_reason(header.error_reason());
    change.SetState(trainer::v1::JOB_STATE_FAILED, header.message());
  }
  const TrainingJob job = change.job();
  SL_RETURN_IF_ERROR(Apply(std::move(change)));
  return job;
}

absl::StatusOr<TrainingJob> JobManager::FinishSucceeded(
    const trainer::v1::FinishJobHeader& header, const std::string& staged_dir,
    const FileInfos& files) {
  TrainingJob before;
  {
    const int64_t arrived_micros = Now();
    MutexLock lock(&mutex_);
    if (auto done = FinishedBefore(header)) return *std::move(done);
    SL_ASSIGN_OR_RETURN(const JobRecord* record,
                        Fence(header.lease(), arrived_micros));
    before = record->job;
  }
  // Outside the lock: reading a whole model takes a while.
  const bool lora = before.resolved().mode() == trainer::v1::TUNING_MODE_LORA;
  registry::v1::Adapter adapter;
  registry::v1::Model model;
  if (lora) {
    SL_ASSIGN_OR_RETURN(
        adapter,
        CheckAdapter(staged_dir, files,
                     options_.artifacts->ModelDir(before.base_model_digest())));
    adapter.set_name(before.resolved().output_name());
    adapter.set_base_model(before.resolved().base_model());
    adapter.set_base_model_digest(before.base_model_digest());
    *adapter.mutable_lineage() = LineageOf(before);
  } else {
    SL_ASSIGN_OR_RETURN(model, CheckModel(staged_dir, files));
    model.set_name(before.resolved().output_name());
    model.set_base_model(before.resolved().base_model());
    model.set_base_model_digest(before.base_model_digest());
    *model.mutable_lineage() = LineageOf(before);
  }

  const int64_t checked_micros = Now();
  MutexLock lock(&mutex_);
  if (auto done = FinishedBefore(header)) return *std::move(done);
  SL_ASSIGN_OR_RETURN(const JobRecord* record,
                      Fence(header.lease(), checked_micros));
  JobChange change = Change(*record);
  change.SetState(trainer::v1::JOB_STATE_SUCCEEDED,
                  fmt::format("registered {} {}", lora ? "adapter" : "model",
                              before.resolved().output_name()));
  change.Seal();
  const auto now = ToTimestamp(options_.clock->WallMicros());
  if (lora) {
    *adapter.mutable_create_time() = now;
    SL_RETURN_IF_ERROR(options_.registry
                           ->CommitAdapter(std::move(adapter), staged_dir,
                                           std::move(change.batch()))
                           .status());
  } else {
    *model.mutable_create_time() = now;
    SL_RETURN_IF_ERROR(options_.registry
                           ->CommitModel(std::move(model), staged_dir,
                                         std::move(change.batch()))
                           .status());
  }
  const TrainingJob job = change.job();
  Publish(change.record());
  return job;
}

}  // namespace sinklora::trainer
