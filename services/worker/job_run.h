// The training of one leased job: model, dataset and checkpoint are fetched,
// steps done, checkpoints committed, the result handed in. How it ended is for
// job_runner.h to tell the trainer.
//
// In a job of several workers every one has a run. Each does all steps with its
// share of the devices; what is done once, that of seat 0 does, and only there
// the calls that commit and finish are allowed.
//
// Thread-compatible. Borrows its arguments.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_WORKER_JOB_RUN_H_
#define SINKLORA_SERVICES_WORKER_JOB_RUN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/model/training_run.h"
#include "services/worker/group_seat.h"
#include "services/worker/job_runner.h"

namespace sinklora::worker {

class JobRun {
 public:
  JobRun(const JobRunnerOptions& options, const trainer::v1::TrainingJob& job,
         LeaseKeeper* keeper)
      : options_(options),
        job_(job),
        spec_(job.resolved()),
        keeper_(keeper),
        seat_(keeper) {}

  GroupSeat* seat() { return &seat_; }

  // OK when all steps are done; kCancelled when the keeper interrupted. In a
  // job of several workers kCancelled may come from the keeper of another: all
  // have stopped at the same step. kUnavailable when their devices cannot reach
  // each other any more, be it because of this seat's abort.
  absl::Status Train();
  // Whether anything was done since the last commit.
  bool HasUncommittedSteps() const {
    return run_ != nullptr && run_->step() > committed_step_;
  }
  // Tries until `until` or something outranking it interrupts.
  absl::Status CommitCheckpoint(StopCause until);
  // Both try until the lease is lost.
  absl::Status Finish(const trainer::v1::FinishJobHeader& header,
                      const std::string& result_dir);
  absl::Status FinishSucceeded(trainer::v1::FinishJobHeader header);

 private:
  // Calls `call` until it gives anything but a transient error. Between two
  // calls waits, and gives up once the keeper's cause is at least `until`.
  absl::Status Retry(StopCause until,
                     const std::function<absl::Status()>& call);
  absl::Status FetchInputs();
  absl::Status FetchSplit(curator::v1::Split split, int64_t max_examples,
                          std::vector<TrainingExample>* examples);
  absl::Status Prepare();
  // Of this worker, those that take part.
  absl::StatusOr<std::span<kernels::Backend* const>> BackendsFor(
      const TrainingOptions& training) const;
  absl::Status ReportPlan(const LlamaConfig& config,
                          const TrainingOptions& training,
                          std::span<kernels::Backend* const> backends);
  // Goes on from the last checkpoint that can be loaded, when there is one.
  absl::Status Resume();
  absl::Status LoadCheckpoint(const std::string& dir, int64_t step);
  absl::Status Step();
  void Report(const StepMetrics& step, double seconds,
              trainer::v1::TrainingMetrics metrics);
  // The model library does not know which step of which dataset it is given.
  absl::Status ExplainStep(const absl::Status& status);
  absl::Status Validate(trainer::v1::TrainingMetrics* metrics);

  const JobRunnerOptions& options_;
  const trainer::v1::TrainingJob& job_;
  const trainer::v1::TrainingSpec& spec_;
  LeaseKeeper* const keeper_;
  GroupSeat seat_;  // before the run, which uses it
  std::string base_dir_;
  std::vector<TrainingExample> train_;
  std::vector<TrainingExample> validation_;
  std::unique_ptr<TrainingRun> run_;
  int64_t committed_step_ = 0;
  int64_t total_tokens_ = 0;
};

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_JOB_RUN_H_
