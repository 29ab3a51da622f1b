// One job as the trainer holds it, the rows it is stored in, and a change to
// it: the new record together with the write batch that makes it durable.
//
// Rows: job/<order>, lease/<name>, event/<name>/<sequence>,
// checkpoint/<name>/<step>; numbers have 20 digits so that keys sort.
//
// Plain values: thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_JOB_RECORD_H_
#define SINKLORA_SERVICES_TRAINER_JOB_RECORD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/store/store.h"
#include "sinklora/trainer/v1/training_service.pb.h"

namespace sinklora::trainer {

// A worker's part of the lease of a running job.
struct JobSeat {
  std::string worker_id;  // empty after a restart: not known any more
  bool can_join = false;  // as the worker said
  int first_rank = 0;
  int ranks = 0;
  bool taken = false;  // the worker has its lease
  int64_t deadline_micros = 0;
};

struct JobRecord {
  int64_t order = 0;  // of submission; the queue's order
  trainer::v1::TrainingJob job;
  int64_t epoch = 0;  // of its last lease; durable
  // Of the lease it is held by now, one seat a worker; none unless it runs. Not
  // durable: after a restart every running job gets a whole new period.
  std::vector<JobSeat> seats;
  std::string group_id;  // of its devices, as seat 0 said; not durable
};

// Workers that train `job` together, >= 1.
int WorkersOf(const trainer::v1::TrainingJob& job);

bool IsTerminal(trainer::v1::JobState state);

std::string JobKey(int64_t order);
std::string LeaseKey(const std::string& job);
std::string EventPrefix(const std::string& job);
std::string EventKey(const std::string& job, int64_t sequence);
std::string CheckpointPrefix(const std::string& job);
std::string CheckpointKey(const std::string& job, int64_t step);

// All jobs in the store, in order of submission.
absl::StatusOr<std::vector<JobRecord>> LoadJobs(Store* store);
// Committed checkpoints of a job, oldest first.
absl::StatusOr<std::vector<trainer::v1::Checkpoint>> LoadCheckpoints(
    Store* store, const std::string& job);

// Collects one change of one job. Every event takes the next sequence number.
class JobChange {
 public:
  // Of the job's events the newest `kept_events` stay.
  JobChange(JobRecord before, int64_t wall_micros, int64_t kept_events)
      : record_(std::move(before)),
        wall_micros_(wall_micros),
        kept_events_(kept_events) {}

  JobRecord& record() { return record_; }
  trainer::v1::TrainingJob& job() { return record_.job; }
  WriteBatch& batch() { return batch_; }

  // Enters `state`; sets the end time of a terminal one.
  void SetState(trainer::v1::JobState state, const std::string& reason);
  void AddMetrics(const trainer::v1::TrainingMetrics& metrics);
  void AddCheckpoint(const trainer::v1::Checkpoint& checkpoint);
  // Adds the job's own rows; the change is complete.
  void Seal();

 private:
  trainer::v1::JobEvent NextEvent();
  void Put(const trainer::v1::JobEvent& event);

  JobRecord record_;
  const int64_t wall_micros_;
  const int64_t kept_events_;
  WriteBatch batch_;
};

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_JOB_RECORD_H_
