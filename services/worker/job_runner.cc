// SPDX-License-Identifier: Apache-2.0
#include "services/worker/job_runner.h"

#include <string>

#include "common/base/exceptions.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "services/worker/job_run.h"

namespace sinklora::worker {
namespace {

// UPPER_SNAKE_CASE reason of a failed job.
std::string FailureReason(const absl::Status& status) {
  const ErrorDetail detail = GetErrorDetail(status);
  if (!detail.reason.empty()) return detail.reason;
  const std::string code(absl::StatusCodeToString(status.code()));
  return code;
}

std::string FinishFailed(JobRun* run, trainer::v1::FinishJobHeader header,
                         const absl::Status& status) {
  header.set_outcome(trainer::v1::JOB_STATE_FAILED);
  header.set_message(std::string(status.message()));
  if (header.message().empty()) header.set_message(status.ToString());
  header.set_error_reason(FailureReason(status));
  LogError("job {} failed: {}: {}", header.lease().job(), header.error_reason(),
           header.message());
  const absl::Status finished = run->Finish(header, "");
  if (finished.ok()) return "failed";
  LogWarning("job {}: cannot say that it failed: {}", header.lease().job(),
             std::string(finished.message()));
  return "abandoned";
}

// This worker's part is done, or it stopped with all others: seat 0 says how
// the job ended.
std::string FollowToEnd(JobRun* run) {
  run->seat()->AwaitEnd();
  return "followed";
}

std::string GiveBack(LeaseKeeper* keeper, const std::string& lost_reason) {
  const absl::Status released = keeper->Release(lost_reason);
  if (released.ok()) return lost_reason.empty() ? "released" : "abandoned";
  LogWarning("job {}: not given back, its lease has to lapse: {}",
             keeper->lease().job(), std::string(released.message()));
  return "abandoned";
}

// The devices of several workers cannot reach each other any more. When that is
// because a worker failed or died, the trainer tells before long.
std::string GiveUp(JobRun* run, LeaseKeeper* keeper,
                   const absl::Status& status) {
  LogWarning("job {}: other workers cannot be reached: {}",
             keeper->lease().job(), std::string(status.message()));
  if (run->seat()->AwaitWord()) return "abandoned";
  return GiveBack(keeper, std::string(status.message()));
}

// The run stopped because the keeper said so, or that of another worker.
std::string FinishInterrupted(JobRun* run, trainer::v1::FinishJobHeader header,
                              LeaseKeeper* keeper) {
  // The news that another worker has may be on its way here.
  if (keeper->cause() == StopCause::kNone) keeper->Flush().IgnoreError();
  const StopCause cause = keeper->cause();
  if (cause == StopCause::kLeaseLost) return "abandoned";
  if (run->HasUncommittedSteps()) {
    // On shutdown one try must do; after a cancel the lease is ours to keep.
    const absl::Status committed = run->CommitCheckpoint(
        cause == StopCause::kShutdown ? StopCause::kShutdown
                                      : StopCause::kLeaseLost);
    if (!committed.ok()) {
      LogWarning("job {}: no checkpoint on the way out: {}",
                 header.lease().job(), std::string(committed.message()));
      if (cause == StopCause::kCancelRequested &&
          !absl::IsCancelled(committed)) {
        return FinishFailed(run, header, committed);
      }
    }
  }
  // Of a job that is to be cancelled, giving it back is the end.
  if (cause != StopCause::kCancelRequested || !run->seat()->leads()) {
    return GiveBack(keeper, "");
  }
  header.set_outcome(trainer::v1::JOB_STATE_CANCELLED);
  return run->Finish(header, "").ok() ? "cancelled" : "abandoned";
}

std::string RunToEnd(JobRun* run, LeaseKeeper* keeper) {
  trainer::v1::FinishJobHeader header;
  *header.mutable_lease() = keeper->lease();
  const GroupSeat& seat = *run->seat();
  absl::Status status = run->Train();
  const bool together =
      status.ok() || (absl::IsCancelled(status) && seat.joined());
  if (together && !seat.leads()) return FollowToEnd(run);
  if (status.ok()) {
    status = run->FinishSucceeded(header);
    if (status.ok()) return "succeeded";
  }
  // Whatever failed behind an abort failed because of it.
  const bool interrupted =
      seat.aborted() ||
      (absl::IsCancelled(status) &&
       (keeper->cause() != StopCause::kNone || !seat.alone()));
  if (interrupted) return FinishInterrupted(run, header, keeper);
  if (absl::IsUnavailable(status) && !seat.alone()) {
    return GiveUp(run, keeper, status);
  }
  return FinishFailed(run, header, status);
}

}  // namespace

std::string RunJob(const JobRunnerOptions& options,
                   const trainer::v1::TrainingJob& job, LeaseKeeper* keeper) {
  JobRun run(options, job, keeper);
  // Libraries below may throw (allocation above all); a job must not end the
  // worker, and neither must saying that it failed.
  std::string what;
  std::string outcome;
  absl::Status thrown = CatchExceptions(
      [&] {
        outcome = RunToEnd(&run, keeper);
        return absl::OkStatus();
      },
      &what);
  if (thrown.ok()) return outcome;
  const std::string first_what = what;
  thrown = CatchExceptions(
      [&] {
        trainer::v1::FinishJobHeader header;
        *header.mutable_lease() = keeper->lease();
        outcome = FinishFailed(
            &run, header,
            MakeError(thrown.code(), first_what, {FailureReason(thrown), {}}));
        return absl::OkStatus();
      },
      &what);
  if (thrown.ok()) return outcome;
  LogError("job {}: cannot say that it failed ({}): {}", keeper->lease().job(),
           first_what, what);
  return "abandoned";
}

}  // namespace sinklora::worker
