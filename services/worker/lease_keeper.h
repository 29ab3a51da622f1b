// Keeps one lease alive from a thread of its own, carries measurements to the
// trainer with every renewal, and says when the run must stop.
//
// Renews every third of the lease's time, and within a second when there are
// measurements to send. Without a renewal for two thirds of the time the lease
// counts as lost: the trainer gives the job away at three thirds, and then two
// workers must never both believe they hold it.
//
// Thread-safe. Borrows remote and clock.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_WORKER_LEASE_KEEPER_H_
#define SINKLORA_SERVICES_WORKER_LEASE_KEEPER_H_

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "common/base/cancellation.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "services/worker/remote.h"

namespace sinklora::worker {

// Why a run is to stop. Later ones outrank earlier ones.
enum class StopCause { kNone, kShutdown, kCancelRequested, kLeaseLost };

class LeaseKeeper {
 public:
  // `leased_micros`: monotonic time just before the lease was asked for.
  LeaseKeeper(Remote* remote, Clock* clock, trainer::v1::Lease lease,
              int64_t leased_micros);
  ~LeaseKeeper();  // stops renewing; does not give the job back

  const trainer::v1::Lease& lease() const { return lease_; }

  // Go out with the next renewal, in order.
  void Report(const trainer::v1::TrainingMetrics& metrics);
  void ReportPlan(const trainer::v1::ResolvedPlan& plan);
  // Sends what was reported now. OK when the trainer has it.
  absl::Status Flush();

  // Sends what was reported and gives the job back, in one try. OK when the
  // trainer has it; nothing is sent afterwards. `lost_reason`: as in
  // HeartbeatRequest.
  absl::Status Release(const std::string& lost_reason = "");

  // Seat 0 of several: goes out with every renewal from now on.
  void PublishGroup(const std::string& group_id);
  // As the trainer said last; empty before it knew.
  std::string group_id() const;

  // The worker shuts down.
  void RequestShutdown();
  // The trainer refused a write of this lease.
  void MarkLost(const std::string& why);

  // Calls `on_stop` with every cause that comes, and now with the one that is
  // there, from any thread. It must not call the keeper. nullptr takes it back:
  // it does not run any more when that returns.
  void OnStop(std::function<void(StopCause)> on_stop);

  StopCause cause() const;
  // Set for any cause: polled by the training step.
  const Cancellation* interrupt() const { return &interrupt_; }
  // Set when the lease is lost: polled by transfers that go on after a cancel.
  const Cancellation* lost() const { return &lost_; }
  // Waits, at most `timeout`, for a cause of at least `cause`. True when it
  // came.
  bool WaitFor(StopCause cause, std::chrono::milliseconds timeout);

 private:
  void Run();
  void Raise(StopCause cause, const std::string& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Renew(bool release, const std::string& lost_reason = "");

  Remote* const remote_;
  Clock* const clock_;
  const trainer::v1::Lease lease_;
  const std::chrono::microseconds period_;  // a third of the lease

  Mutex send_mutex_;  // one heartbeat at a time keeps measurements in order
  mutable Mutex mutex_;
  CondVar wake_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  StopCause cause_ ABSL_GUARDED_BY(mutex_) = StopCause::kNone;
  int64_t renewed_micros_ ABSL_GUARDED_BY(mutex_);
  std::vector<trainer::v1::TrainingMetrics> pending_ ABSL_GUARDED_BY(mutex_);
  std::optional<trainer::v1::ResolvedPlan> plan_ ABSL_GUARDED_BY(mutex_);
  int64_t plan_reports_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string own_group_id_ ABSL_GUARDED_BY(mutex_);
  std::string group_id_ ABSL_GUARDED_BY(mutex_);
  std::function<void(StopCause)> on_stop_ ABSL_GUARDED_BY(mutex_);
  Cancellation interrupt_;
  Cancellation lost_;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_LEASE_KEEPER_H_
