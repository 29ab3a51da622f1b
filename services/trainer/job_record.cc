// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/job_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "common/base/status.h"
#include "services/trainer/rows.h"
#include "sinklora/trainer/v1/worker_service.pb.h"

namespace sinklora::trainer {
namespace {

using trainer::v1::Checkpoint;
using trainer::v1::JobEvent;
using trainer::v1::TrainingJob;

constexpr char kJobPrefix[] = "job/";

}  // namespace

bool IsTerminal(trainer::v1::JobState state) {
  return state == trainer::v1::JOB_STATE_SUCCEEDED ||
         state == trainer::v1::JOB_STATE_FAILED ||
         state == trainer::v1::JOB_STATE_CANCELLED;
}

int WorkersOf(const TrainingJob& job) {
  // 0 in jobs from before there was such a thing.
  return std::max(1, job.resolved().workers());
}

std::string JobKey(int64_t order) {
  return fmt::format("{}{:020}", kJobPrefix, order);
}
std::string LeaseKey(const std::string& job) { return "lease/" + job; }
std::string EventPrefix(const std::string& job) { return "event/" + job + "/"; }
std::string EventKey(const std::string& job, int64_t sequence) {
  return fmt::format("{}{:020}", EventPrefix(job), sequence);
}
std::string CheckpointPrefix(const std::string& job) {
  return "checkpoint/" + job + "/";
}
std::string CheckpointKey(const std::string& job, int64_t step) {
  return fmt::format("{}{:020}", CheckpointPrefix(job), step);
}

absl::StatusOr<std::vector<JobRecord>> LoadJobs(Store* store) {
  SL_ASSIGN_OR_RETURN(const auto rows, ScanAll(store, kJobPrefix));
  std::vector<JobRecord> records;
  for (const auto& [key, bytes] : rows) {
    JobRecord record;
    const char* digits = key.data() + sizeof(kJobPrefix) - 1;
    const char* end = key.data() + key.size();
    if (std::from_chars(digits, end, record.order).ptr != end) {
      return absl::DataLossError(
          fmt::format("row {} of the trainer's store has no number", key));
    }
    SL_ASSIGN_OR_RETURN(record.job, ParseRow<TrainingJob>(key, bytes));
    const std::string lease_key = LeaseKey(record.job.name());
    const auto lease_bytes = store->Get(lease_key);
    if (lease_bytes.ok()) {
      SL_ASSIGN_OR_RETURN(const auto lease, ParseRow<trainer::v1::Lease>(
                                                lease_key, *lease_bytes));
      record.epoch = lease.epoch();
    } else if (!absl::IsNotFound(lease_bytes.status())) {
      return lease_bytes.status();
    }
    records.push_back(std::move(record));
  }
  return records;
}

absl::StatusOr<std::vector<Checkpoint>> LoadCheckpoints(
    Store* store, const std::string& job) {
  SL_ASSIGN_OR_RETURN(const auto rows, ScanAll(store, CheckpointPrefix(job)));
  std::vector<Checkpoint> checkpoints;
  for (const auto& [key, bytes] : rows) {
    SL_ASSIGN_OR_RETURN(auto checkpoint, ParseRow<Checkpoint>(key, bytes));
    checkpoints.push_back(std::move(checkpoint));
  }
  return checkpoints;
}

JobEvent JobChange::NextEvent() {
  JobEvent event;
  record_.job.set_last_sequence(record_.job.last_sequence() + 1);
  event.set_sequence(record_.job.last_sequence());
  *event.mutable_time() = ToTimestamp(wall_micros_);
  event.set_attempt(record_.job.attempt());
  return event;
}

void JobChange::Put(const JobEvent& event) {
  // Each event takes the place of one, so that there is never much to delete.
  if (event.sequence() > kept_events_) {
    batch_.Delete(
        EventKey(record_.job.name(), event.sequence() - kept_events_));
  }
  batch_.Put(EventKey(record_.job.name(), event.sequence()),
             event.SerializeAsString());
}

void JobChange::SetState(trainer::v1::JobState state,
                         const std::string& reason) {
  record_.job.set_state(state);
  record_.job.set_state_reason(reason);
  if (state != trainer::v1::JOB_STATE_RUNNING) {
    record_.seats.clear();
    record_.group_id.clear();
  }
  if (IsTerminal(state)) {
    *record_.job.mutable_end_time() = ToTimestamp(wall_micros_);
  }
  JobEvent event = NextEvent();
  event.mutable_state_change()->set_state(state);
  event.mutable_state_change()->set_reason(reason);
  Put(event);
}

void JobChange::AddMetrics(const trainer::v1::TrainingMetrics& metrics) {
  *record_.job.mutable_metrics() = metrics;
  JobEvent event = NextEvent();
  *event.mutable_metrics() = metrics;
  Put(event);
}

void JobChange::AddCheckpoint(const Checkpoint& checkpoint) {
  record_.job.set_checkpoint_step(checkpoint.step());
  batch_.Put(CheckpointKey(record_.job.name(), checkpoint.step()),
             checkpoint.SerializeAsString());
  JobEvent event = NextEvent();
  *event.mutable_checkpoint() = checkpoint;
  Put(event);
}

void JobChange::Seal() {
  trainer::v1::Lease lease;
  lease.set_job(record_.job.name());
  lease.set_epoch(record_.epoch);
  batch_.Put(LeaseKey(record_.job.name()), lease.SerializeAsString());
  batch_.Put(JobKey(record_.order), record_.job.SerializeAsString());
}

}  // namespace sinklora::trainer
