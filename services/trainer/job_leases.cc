// The half of JobManager that gives jobs to workers: leases, their seats and
// heartbeats.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/status.h"
#include "kernels/collective/collective.h"
#include "services/trainer/job_manager.h"
#include "services/trainer/rows.h"

namespace sinklora::trainer {

using trainer::v1::Lease;

namespace {

constexpr size_t kMaxWorkerIdBytes = 128;
constexpr int kMaxDevices = 1024;
constexpr size_t kMaxGroupIdBytes = 256;

absl::StatusOr<AskingWorker> ReadWorker(
    const trainer::v1::LeaseJobRequest& request) {
  const size_t bytes = request.worker_id().size();
  if (bytes == 0 || bytes > kMaxWorkerIdBytes) {
    return absl::InvalidArgumentError(
        fmt::format("worker_id has {} bytes, allowed is [1, {}]", bytes,
                    kMaxWorkerIdBytes));
  }
  if (request.devices() < 0 || request.devices() > kMaxDevices) {
    return absl::InvalidArgumentError(fmt::format(
        "devices is {}, allowed is [0, {}]", request.devices(), kMaxDevices));
  }
  return AskingWorker{request.worker_id(), std::max(1, request.devices()),
                      request.can_join()};
}

// The most ranks that a job has work for.
int64_t MostRanks(const trainer::v1::TrainingSpec& spec) {
  const int64_t context = std::max(1, spec.context_parallel());
  return std::min<int64_t>(
      context * spec.accumulation_steps(),
      kernels::JoinCollectiveParams::kMaxSize / context * context);
}

std::vector<JobSeat> SeatsFor(const std::vector<AskingWorker>& workers,
                              int64_t most_ranks, int64_t deadline_micros) {
  std::vector<int> devices;
  for (const AskingWorker& worker : workers) devices.push_back(worker.devices);
  const std::vector<int> ranks = ShareRanks(devices, most_ranks);
  std::vector<JobSeat> seats;
  int next_rank = 0;
  for (size_t i = 0; i < workers.size(); ++i) {
    seats.push_back({.worker_id = workers[i].id,
                     .can_join = workers[i].can_join,
                     .first_rank = next_rank,
                     .ranks = ranks[i],
                     .deadline_micros = deadline_micros});
    next_rank += ranks[i];
  }
  return seats;
}

std::string LeasedBy(const std::vector<AskingWorker>& workers) {
  std::vector<std::string> ids;
  for (const AskingWorker& worker : workers) ids.push_back(worker.id);
  return fmt::format("leased by worker{} {}", ids.size() == 1 ? "" : "s",
                     fmt::join(ids, ", "));
}

absl::Status CheckHeartbeat(const trainer::v1::HeartbeatRequest& request,
                            size_t seats) {
  if (!request.lost_reason().empty() && !request.release()) {
    return absl::InvalidArgumentError(
        "lost_reason is given, allowed is with release only");
  }
  if (request.group_id().size() > kMaxGroupIdBytes) {
    return absl::InvalidArgumentError(
        fmt::format("group_id has {} bytes, allowed is [0, {}]",
                    request.group_id().size(), kMaxGroupIdBytes));
  }
  if (!request.group_id().empty() && seats == 1) {
    return absl::InvalidArgumentError(
        "group_id is given, allowed is in a job of several workers only");
  }
  const bool first_seats_own = request.has_plan() ||
                               request.metrics_size() > 0 ||
                               !request.group_id().empty();
  if (request.lease().seat() != 0 && first_seats_own) {
    return absl::InvalidArgumentError(
        fmt::format("lease.seat is {}, must be 0 to report a plan, metrics or "
                    "a group_id",
                    request.lease().seat()));
  }
  return absl::OkStatus();
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
    const auto lapsed = std::find_if(
        record.seats.begin(), record.seats.end(), [&](const JobSeat& seat) {
          return now_micros >= seat.deadline_micros;
        });
    if (lapsed == record.seats.end()) continue;
    const absl::Status expired = ExpireOne(record, *lapsed);
    // The next sweep tries again; until then nobody else gets the job.
    if (!expired.ok()) {
      LogError("cannot take back the lease of job {}: {}", record.job.name(),
               std::string(expired.message()));
    }
  }
  idle_.Expire(now_micros);
  NoteWaiting();
}

absl::StatusOr<int> JobManager::LostAttempts(const JobRecord& record) {
  SL_ASSIGN_OR_RETURN(const auto checkpoints,
                      LoadCheckpoints(options_.store, record.job.name()));
  const bool fruitful = !checkpoints.empty() &&
                        checkpoints.back().attempt() == record.job.attempt();
  return fruitful ? 0 : record.job.lost_attempts() + 1;
}

absl::Status JobManager::ExpireOne(const JobRecord& record,
                                   const JobSeat& seat) {
  int lost = record.job.lost_attempts();
  // One that never came for its lease does not tell anything about the job.
  if (seat.taken) {
    SL_ASSIGN_OR_RETURN(lost, LostAttempts(record));
  }
  JobChange change = Change(record);
  std::string why =
      fmt::format("lease of attempt {} expired", record.job.attempt());
  if (record.seats.size() > 1 && !seat.worker_id.empty()) {
    why += ": worker " + seat.worker_id;
  }
  TakeBack(lost, why, "its worker went away", &change);
  SL_RETURN_IF_ERROR(Apply(std::move(change)));
  options_.metrics->LeaseExpired();
  return absl::OkStatus();
}

void JobManager::TakeBack(int lost, const std::string& why,
                          const std::string& why_cancelled, JobChange* change) {
  change->job().set_lost_attempts(lost);
  if (change->job().cancel_requested()) {
    change->SetState(trainer::v1::JOB_STATE_CANCELLED,
                     "cancelled; " + why_cancelled);
  } else if (lost >= options_.max_attempts) {
    change->job().set_error_reason("MAX_ATTEMPTS");
    change->SetState(trainer::v1::JOB_STATE_FAILED,
                     fmt::format("{} attempts in a row lost their worker "
                                 "without a new checkpoint, the limit is {}; "
                                 "the last: {}",
                                 lost, options_.max_attempts, why));
  } else {
    change->SetState(trainer::v1::JOB_STATE_QUEUED, why);
  }
}

absl::Status JobManager::GiveBack(const JobSeat& seat,
                                  const std::string& lost_reason,
                                  JobChange* change) {
  const std::string worker =
      seat.worker_id.empty() ? "its worker" : "worker " + seat.worker_id;
  int lost = change->job().lost_attempts();
  std::string why = "given back by " + worker;
  if (!lost_reason.empty()) {
    SL_ASSIGN_OR_RETURN(lost, LostAttempts(change->record()));
    why = fmt::format("given up by {}: {}", worker, lost_reason);
  }
  TakeBack(lost, why, "its worker gave it back", change);
  return absl::OkStatus();
}

void JobManager::NoteWaiting() {
  for (const int64_t order : active_) {
    JobRecord& record = jobs_.at(order);
    const int workers = WorkersOf(record.job);
    if (record.job.state() != trainer::v1::JOB_STATE_QUEUED || workers == 1) {
      continue;
    }
    const int there = idle_.count();
    record.job.set_state_reason(fmt::format(
        "waiting for workers: {} of {}{}", std::min(there, workers), workers,
        there >= workers ? ", an older job comes first" : ""));
  }
}

int JobManager::WorkersThatCanJoin() const {
  const std::vector<std::string> asking = idle_.ids();
  std::set<std::string> ids(asking.begin(), asking.end());
  for (const int64_t order : active_) {
    for (const JobSeat& seat : jobs_.at(order).seats) {
      if (seat.can_join) ids.insert(seat.worker_id);
    }
  }
  return static_cast<int>(ids.size());
}

absl::StatusOr<bool> JobManager::StartNext(const AskingWorker& worker) {
  for (const int64_t order : active_) {
    const JobRecord& record = jobs_.at(order);
    if (record.job.state() != trainer::v1::JOB_STATE_QUEUED) continue;
    const int workers = WorkersOf(record.job);
    std::vector<AskingWorker> taken = {worker};
    if (workers > 1) {
      if (!worker.can_join) continue;
      if (idle_.count() < workers) {
        // Kept for the job while it can be filled; else it is passed over.
        if (WorkersThatCanJoin() >= workers) return false;
        continue;
      }
      taken = idle_.Pick(worker.id, workers);
    }
    SL_RETURN_IF_ERROR(StartJob(record, taken));
    return true;
  }
  return false;
}

absl::Status JobManager::StartJob(const JobRecord& record,
                                  const std::vector<AskingWorker>& workers) {
  JobChange change = Change(record);
  change.record().epoch += 1;
  change.record().seats =
      SeatsFor(workers, MostRanks(record.job.resolved()), LeaseDeadline());
  change.job().set_attempt(change.job().attempt() + 1);
  if (!change.job().has_start_time()) {
    *change.job().mutable_start_time() =
        ToTimestamp(options_.clock->WallMicros());
  }
  change.SetState(trainer::v1::JOB_STATE_RUNNING, LeasedBy(workers));
  SL_RETURN_IF_ERROR(Apply(std::move(change)));
  for (const AskingWorker& worker : workers) idle_.Forget(worker.id);
  return absl::OkStatus();
}

bool JobManager::TakeSeat(const std::string& worker_id,
                          trainer::v1::LeaseJobResponse* response) {
  for (const int64_t order : active_) {
    JobRecord& record = jobs_.at(order);
    const auto seat = std::find_if(
        record.seats.begin(), record.seats.end(),
        [&](const JobSeat& s) { return !s.taken && s.worker_id == worker_id; });
    if (seat == record.seats.end()) continue;
    seat->taken = true;
    seat->deadline_micros = LeaseDeadline();
    Lease* const lease = response->mutable_lease();
    lease->set_job(record.job.name());
    lease->set_epoch(record.epoch);
    lease->set_ttl_seconds(options_.lease_ttl_seconds);
    lease->set_seat(static_cast<int>(seat - record.seats.begin()));
    lease->set_seats(static_cast<int>(record.seats.size()));
    lease->set_first_rank(seat->first_rank);
    lease->set_ranks(seat->ranks);
    const JobSeat& last = record.seats.back();
    lease->set_total_ranks(last.first_rank + last.ranks);
    *response->mutable_job() = record.job;
    return true;
  }
  return false;
}

absl::StatusOr<trainer::v1::LeaseJobResponse> JobManager::LeaseJob(
    const trainer::v1::LeaseJobRequest& request) {
  SL_ASSIGN_OR_RETURN(const AskingWorker worker, ReadWorker(request));
  const int64_t arrived_micros = Now();
  MutexLock lock(&mutex_);
  ExpireLocked(arrived_micros);
  trainer::v1::LeaseJobResponse response;
  if (TakeSeat(worker.id, &response)) return response;
  if (worker.can_join) idle_.Ask(worker, arrived_micros);
  SL_ASSIGN_OR_RETURN(const bool started, StartNext(worker));
  if (started && TakeSeat(worker.id, &response)) return response;
  NoteWaiting();
  response.set_retry_after_seconds(kRetryAfterSeconds);
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
  if (lease.seat() < 0 ||
      lease.seat() >= static_cast<int>((*record)->seats.size())) {
    return StaleLease(lease,
                      fmt::format("seat is {}, the job has {}", lease.seat(),
                                  (*record)->seats.size()));
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
  SL_RETURN_IF_ERROR(CheckHeartbeat(request, record->seats.size()));
  const auto seat = static_cast<size_t>(request.lease().seat());
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
    SL_RETURN_IF_ERROR(
        GiveBack(record->seats[seat], request.lost_reason(), &change));
    changed = true;
  }
  // A renewal alone is not written: deadlines do not survive a restart anyway.
  if (changed) SL_RETURN_IF_ERROR(Apply(std::move(change)));
  if (!request.release()) {
    record->seats[seat].deadline_micros = LeaseDeadline();
    if (!request.group_id().empty()) record->group_id = request.group_id();
  }
  if (!IsTerminal(record->job.state()) && record->job.has_metrics()) {
    options_.metrics->SetJobProgress(record->job.name(),
                                     record->job.metrics().loss(),
                                     record->job.metrics().step());
  }
  trainer::v1::HeartbeatResponse response;
  response.set_ttl_seconds(request.release() ? 0 : options_.lease_ttl_seconds);
  response.set_cancel_requested(record->job.cancel_requested());
  response.set_group_id(record->group_id);
  return response;
}

}  // namespace sinklora::trainer
