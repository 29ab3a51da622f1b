// The half of JobManager that workers call: leases, heartbeats, checkpoints,
// the end of a job.
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

constexpr double kRetryAfterSeconds = 1.0;
constexpr size_t kMaxWorkerIdBytes = 128;
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

}  // namespace

int64_t JobManager::LeaseDeadline() const {
  return Now() + static_cast<int64_t>(options_.lease_ttl_seconds * 1e6);
}

void JobManager::ExpireLeases() {
  const int64_t arrived_micros = Now();
  MutexLock lock(&mutex_);
  ExpireLocked(arrived_micros);
}

void JobManager::ExpireLocked(int64_t now_micros) {
  // A copy: a job that fails for good leaves the set.
  const std::vector<int64_t> active(active_.begin(), active_.end());
  for (const int64_t order : active) {
    const JobRecord& record = jobs_.at(order);
    if (record.job.state() != trainer::v1::JOB_STATE_RUNNING ||
        now_micros < record.lease_deadline_micros) {
      continue;
    }
    const absl::Status expired = ExpireOne(record);
    // The next sweep tries again; until then nobody else gets the job.
    if (!expired.ok()) {
      LogError("cannot take back the lease of job {}: {}", record.job.name(),
               std::string(expired.message()));
    }
  }
}

absl::StatusOr<int> JobManager::LostAttempts(const JobRecord& record) {
  SL_ASSIGN_OR_RETURN(const auto checkpoints,
                      LoadCheckpoints(options_.store, record.job.name()));
  const bool fruitful = !checkpoints.empty() &&
                        checkpoints.back().attempt() == record.job.attempt();
  return fruitful ? 0 : record.job.lost_attempts() + 1;
}

absl::Status JobManager::ExpireOne(const JobRecord& record) {
  SL_ASSIGN_OR_RETURN(const int lost, LostAttempts(record));
  JobChange change = Change(record);
  change.record().worker_id.clear();
  change.job().set_lost_attempts(lost);
  if (record.job.cancel_requested()) {
    change.SetState(trainer::v1::JOB_STATE_CANCELLED,
                    "cancelled; its worker went away");
  } else if (lost >= options_.max_attempts) {
    change.job().set_error_reason("MAX_ATTEMPTS");
    change.SetState(trainer::v1::JOB_STATE_FAILED,
                    fmt::format("{} attempts in a row lost their worker "
                                "without a new checkpoint, the limit is {}",
                                lost, options_.max_attempts));
  } else {
    change.SetState(
        trainer::v1::JOB_STATE_QUEUED,
        fmt::format("lease of attempt {} expired", record.job.attempt()));
  }
  SL_RETURN_IF_ERROR(Apply(std::move(change)));
  options_.metrics->LeaseExpired();
  return absl::OkStatus();
}

void JobManager::GiveBack(JobChange* change) {
  const std::string worker = change->record().worker_id;  // until a restart
  change->record().worker_id.clear();
  if (change->job().cancel_requested()) {
    change->SetState(trainer::v1::JOB_STATE_CANCELLED,
                     "cancelled; its worker gave it back");
  } else {
    change->SetState(trainer::v1::JOB_STATE_QUEUED,
                     worker.empty()
                         ? "given back by its worker"
                         : fmt::format("given back by worker {}", worker));
  }
}

absl::StatusOr<trainer::v1::LeaseJobResponse> JobManager::LeaseJob(
    const std::string& worker_id) {
  if (worker_id.empty() || worker_id.size() > kMaxWorkerIdBytes) {
    return absl::InvalidArgumentError(
        fmt::format("worker_id has {} bytes, allowed is [1, {}]",
                    worker_id.size(), kMaxWorkerIdBytes));
  }
  const int64_t arrived_micros = Now();
  MutexLock lock(&mutex_);
  ExpireLocked(arrived_micros);
  trainer::v1::LeaseJobResponse response;
  const JobRecord* next = nullptr;
  for (const int64_t order : active_) {
    const JobRecord& record = jobs_.at(order);
    if (record.job.state() != trainer::v1::JOB_STATE_QUEUED) continue;
    next = &record;
    break;
  }
  if (next == nullptr) {
    response.set_retry_after_seconds(kRetryAfterSeconds);
    return response;
  }
  JobChange change = Change(*next);
  change.record().epoch += 1;
  change.record().worker_id = worker_id;
  change.record().lease_deadline_micros = LeaseDeadline();
  change.job().set_attempt(change.job().attempt() + 1);
  if (!change.job().has_start_time()) {
    *change.job().mutable_start_time() =
        ToTimestamp(options_.clock->WallMicros());
  }
  change.SetState(trainer::v1::JOB_STATE_RUNNING,
                  fmt::format("leased by worker {}", worker_id));
  response.mutable_lease()->set_job(change.job().name());
  response.mutable_lease()->set_epoch(change.record().epoch);
  response.mutable_lease()->set_ttl_seconds(options_.lease_ttl_seconds);
  *response.mutable_job() = change.job();
  SL_RETURN_IF_ERROR(Apply(std::move(change)));
  return response;
}

absl::Status JobManager::StaleLease(const Lease& lease,
                                    const std::string& why) {
  options_.metrics->StaleWriteRejected();
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      fmt::format("lease {} of job {}: {}", lease.epoch(), lease.job(), why),
      {"STALE_LEASE_EPOCH",
       {{"job", lease.job()}, {"epoch", std::to_string(lease.epoch())}}});
}

absl::StatusOr<JobRecord*> JobManager::Fence(const Lease& lease,
                                             int64_t arrived_micros) {
  ExpireLocked(arrived_micros);
  const auto record = Find(lease.job());
  // A deleted job has no lease any more; its worker must drop it all the same.
  if (absl::IsNotFound(record.status())) {
    return StaleLease(lease, "the job does not exist");
  }
  SL_RETURN_IF_ERROR(record.status());
  if (lease.epoch() != (*record)->epoch) {
    return StaleLease(lease,
                      fmt::format("the current epoch is {}", (*record)->epoch));
  }
  if ((*record)->job.state() != trainer::v1::JOB_STATE_RUNNING) {
    return StaleLease(lease, fmt::format("the job is {}",
                                         JobStateName((*record)->job.state())));
  }
  return *record;
}

absl::Status JobManager::CheckLease(const Lease& lease) {
  const int64_t arrived_micros = Now();
  MutexLock lock(&mutex_);
  return Fence(lease, arrived_micros).status();
}

absl::StatusOr<trainer::v1::HeartbeatResponse> JobManager::Heartbeat(
    const trainer::v1::HeartbeatRequest& request) {
  const int64_t arrived_micros = Now();
  MutexLock lock(&mutex_);
  SL_ASSIGN_OR_RETURN(JobRecord* const record,
                      Fence(request.lease(), arrived_micros));
  JobChange change = Change(*record);
  bool changed = request.has_plan();
  if (request.has_plan()) *change.job().mutable_plan() = request.plan();
  for (const auto& metrics : request.metrics()) {
    // An attempt that resumed repeats steps an earlier one has reported.
    if (metrics.step() <= change.job().metrics().step()) continue;
    change.AddMetrics(metrics);
    changed = true;
  }
  if (request.release()) {
    GiveBack(&change);
    changed = true;
  }
  // A renewal alone is not written: deadlines do not survive a restart anyway.
  if (changed) SL_RETURN_IF_ERROR(Apply(std::move(change)));
  record->lease_deadline_micros = LeaseDeadline();
  if (!IsTerminal(record->job.state()) && record->job.has_metrics()) {
    options_.metrics->SetJobProgress(record->job.name(),
                                     record->job.metrics().loss(),
                                     record->job.metrics().step());
  }
  trainer::v1::HeartbeatResponse response;
  response.set_ttl_seconds(request.release() ? 0 : options_.lease_ttl_seconds);
  response.set_cancel_requested(record->job.cancel_requested());
  return response;
}

absl::StatusOr<Checkpoint> JobManager::CommitCheckpoint(
    const trainer::v1::CommitCheckpointHeader& header,
    const std::string& staged_dir, const FileInfos& files) {
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
