// The state machine of training jobs: durable queue, leases with fencing,
// events, checkpoints.
//
// Every transition is one write batch with the events it causes and, for a
// mutating RPC, its request-log entry; memory changes only after the write
// succeeded. A job is held by a lease with an epoch that grows, in the batch of
// the claim, with every lease of that job; a write with another epoch, or for
// a job whose lease has expired, is kFailedPrecondition with reason
// STALE_LEASE_EPOCH and changes nothing. Leases are timed by the clock's
// monotonic side, against the time at which a call arrived, not that at which
// it got the lock; after a restart every running job gets a whole period anew.
// Files are copied and removed outside the lock: a heartbeat waits for rows at
// most.
//
// A job of several workers has a seat for each, of one epoch, each with a
// deadline of its own; it is held while all of them are. It starts when so many
// workers that can join have asked within a few seconds, in one transition, so
// that no two jobs wait for each other's workers. The queue stays in order:
// workers that can join are kept from younger jobs while the oldest one that
// waits can be filled, by those that ask and those at work; else it is passed
// over. Who asks, who holds a seat and the id of a group are known in memory
// only, and so is the reason of a job that waits.
//
// Locks: this object's mutex before the Registry's.
// Thread-safe; blocks on the disk. Borrows everything in Options.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_JOB_MANAGER_H_
#define SINKLORA_SERVICES_TRAINER_JOB_MANAGER_H_

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/store/request_log.h"
#include "common/store/store.h"
#include "services/trainer/artifact_store.h"
#include "services/trainer/dataset_catalog.h"
#include "services/trainer/idle_workers.h"
#include "services/trainer/job_record.h"
#include "services/trainer/metrics.h"
#include "services/trainer/registry.h"
#include "sinklora/trainer/v1/training_service.pb.h"
#include "sinklora/trainer/v1/worker_service.pb.h"

namespace sinklora::trainer {

class JobManager {
 public:
  struct Options {
    Store* store = nullptr;
    const ArtifactStore* artifacts = nullptr;
    Registry* registry = nullptr;
    DatasetCatalog* datasets = nullptr;
    Clock* clock = nullptr;
    TrainerMetrics* metrics = nullptr;
    double lease_ttl_seconds = 15;
    // A job is FAILED when so many attempts in a row lost their worker and
    // left no new checkpoint.
    int max_attempts = 5;
    // The newest events of a job that are kept.
    int64_t kept_events = 100'000;
  };
  static absl::StatusOr<std::unique_ptr<JobManager>> Create(
      const Options& options);

  // --- what clients ask (job_manager.cc) ------------------------------------
  absl::StatusOr<trainer::v1::TrainingJob> CreateJob(
      const trainer::v1::CreateTrainingJobRequest& request);
  absl::StatusOr<trainer::v1::TrainingJob> GetJob(const std::string& name);
  absl::StatusOr<trainer::v1::ListTrainingJobsResponse> ListJobs(
      const trainer::v1::ListTrainingJobsRequest& request);
  absl::StatusOr<trainer::v1::TrainingJob> CancelJob(
      const trainer::v1::CancelTrainingJobRequest& request);
  absl::Status DeleteJob(const trainer::v1::DeleteTrainingJobRequest& request);
  absl::StatusOr<std::vector<trainer::v1::Checkpoint>> ListCheckpoints(
      const std::string& name);
  // Registry::DeleteModel, refused while a job that has not ended needs it.
  absl::Status DeleteModel(const registry::v1::DeleteModelRequest& request);

  struct EventPage {
    std::vector<trainer::v1::JobEvent> events;
    bool ended = false;  // the job has ended and no event follows
  };
  // Events from `from_sequence` on, up to 500. With none there yet, waits for
  // one at most `timeout`.
  absl::StatusOr<EventPage> WaitForEvents(const std::string& name,
                                          int64_t from_sequence,
                                          std::chrono::milliseconds timeout);

  // --- what workers ask (job_leases.cc, job_results.cc) ---------------------
  // The seat that is kept for the worker, or the oldest queued job that it can
  // have, or a response without a lease.
  absl::StatusOr<trainer::v1::LeaseJobResponse> LeaseJob(
      const trainer::v1::LeaseJobRequest& request);
  absl::StatusOr<trainer::v1::HeartbeatResponse> Heartbeat(
      const trainer::v1::HeartbeatRequest& request);
  // OK while `lease` is the one that holds its job: asked before an upload.
  absl::Status CheckLease(const trainer::v1::Lease& lease);
  // Files of a checkpoint lie in `staged_dir`. Keeps the last two.
  // kInvalidArgument unless its manifest describes them.
  absl::StatusOr<trainer::v1::Checkpoint> CommitCheckpoint(
      const trainer::v1::CommitCheckpointHeader& header,
      const std::string& staged_dir, const FileInfos& files);
  struct StoredCheckpoint {
    trainer::v1::Checkpoint checkpoint;
    std::string dir;
  };
  // The last checkpoint whose files are what their hashes say; broken ones are
  // dropped, and first of all that of `broken_step` (0: none), which a worker
  // could not load. kNotFound when there never was one, kDataLoss when all are
  // broken.
  absl::StatusOr<StoredCheckpoint> OpenCheckpoint(
      const trainer::v1::Lease& lease, int64_t broken_step = 0);
  // For SUCCEEDED the result's files lie in `staged_dir`; they are registered
  // in the write that ends the job. Repeating it with the same lease is OK.
  absl::StatusOr<trainer::v1::TrainingJob> FinishJob(
      const trainer::v1::FinishJobHeader& header, const std::string& staged_dir,
      const FileInfos& files);

  // Takes back every lease whose time is up. Also done by the calls above.
  void ExpireLeases();
  // Directories that rows refer to.
  absl::StatusOr<std::set<std::string>> ReferencedDirs();
  // Wakes every waiter; WaitForEvents is kUnavailable from now on.
  void Stop();

 private:
  using Jobs = std::map<int64_t, JobRecord>;  // by order

  static constexpr double kRetryAfterSeconds = 1;
  // A worker that has not asked for so long does not wait any more.
  static constexpr int64_t kAskedWindowMicros =
      static_cast<int64_t>(3e6 * kRetryAfterSeconds);

  explicit JobManager(const Options& options)
      : options_(options),
        requests_(options.store, options.clock),
        idle_(kAskedWindowMicros) {}
  absl::Status Load();

  absl::StatusOr<JobRecord*> Find(const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  JobChange Change(const JobRecord& record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Writes the change, then makes it visible and wakes watchers.
  absl::Status Apply(JobChange change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The second half of Apply, for a batch that was written elsewhere.
  void Publish(const JobRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // While a job is active, its output name is reserved in the registry.
  absl::Status ReserveOutput(const trainer::v1::TrainingJob& job);
  void ReleaseOutput(const trainer::v1::TrainingJob& job);
  // Everything of a job but its name, for a resolved spec.
  absl::StatusOr<trainer::v1::TrainingJob> Plan(
      const trainer::v1::TrainingSpec& spec);
  // The last checkpoint of the job that another one resumes.
  struct Inherited {
    trainer::v1::Checkpoint checkpoint;
    std::unique_ptr<TempDir> staging;
    std::string dir;  // its files, in `staging`
  };
  // What `job` resumes, as it is stored now. Nothing when it resumes none.
  absl::StatusOr<std::optional<trainer::v1::Checkpoint>> FindInherited(
      const trainer::v1::TrainingJob& job)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Copies its files (links, where the disk has them). Takes the lock.
  absl::StatusOr<std::optional<Inherited>> StageInherited(
      const trainer::v1::TrainingJob& job);
  // Gives `change` what was staged. kAborted when it was replaced meanwhile.
  absl::Status Inherit(const std::optional<Inherited>& inherited,
                       JobChange* change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status InsertJob(JobChange* change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Takes back the leases whose time was up at `now_micros`.
  void ExpireLocked(int64_t now_micros) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Because the time of `seat` was up.
  absl::Status ExpireOne(const JobRecord& record, const JobSeat& seat)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The job's lost attempts with the running one, which lost its worker. A job
  // that gets on, however often its workers die, is not a job that kills them.
  absl::StatusOr<int> LostAttempts(const JobRecord& record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The state of a job that the worker of `seat` gave back; with a
  // `lost_reason` that is a lost attempt.
  absl::Status GiveBack(const JobSeat& seat, const std::string& lost_reason,
                        JobChange* change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The state of a job that nobody holds any more, after so many lost attempts.
  void TakeBack(int lost, const std::string& why,
                const std::string& why_cancelled, JobChange* change);
  // Says of each job that waits for several workers how many there are.
  void NoteWaiting() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Those that ask, and those at work.
  int WorkersThatCanJoin() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Starts the oldest job that `worker` can have now, alone or with others.
  // Whether there was one.
  absl::StatusOr<bool> StartNext(const AskingWorker& worker)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StartJob(const JobRecord& record,
                        const std::vector<AskingWorker>& workers)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives the worker the seat that is kept for it. Whether there was one.
  bool TakeSeat(const std::string& worker_id,
                trainer::v1::LeaseJobResponse* response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Now() const { return options_.clock->MonotonicMicros(); }
  int64_t LeaseDeadline() const;
  absl::Status StaleLease(const trainer::v1::Lease& lease,
                          const std::string& why);
  // The running job that `lease` holds, or held when the call arrived.
  absl::StatusOr<JobRecord*> Fence(const trainer::v1::Lease& lease,
                                   int64_t arrived_micros)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<trainer::v1::TrainingJob> FinishSucceeded(
      const trainer::v1::FinishJobHeader& header, const std::string& staged_dir,
      const FileInfos& files);
  absl::StatusOr<trainer::v1::TrainingJob> FinishUnsuccessful(
      const trainer::v1::FinishJobHeader& header);
  // The job when it ended by this very lease and outcome already.
  std::optional<trainer::v1::TrainingJob> FinishedBefore(
      const trainer::v1::FinishJobHeader& header)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status DropCheckpoint(const trainer::v1::Lease& lease, int64_t step);

  const Options options_;
  RequestLog requests_;
  Mutex mutex_;
  CondVar changed_;
  Jobs jobs_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> order_of_ ABSL_GUARDED_BY(mutex_);
  std::set<int64_t> active_ ABSL_GUARDED_BY(mutex_);  // not ended, by order
  int64_t next_order_ ABSL_GUARDED_BY(mutex_) = 1;
  IdleWorkers idle_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_JOB_MANAGER_H_
