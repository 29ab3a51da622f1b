// SPDX-License-Identifier: Apache-2.0
#include "services/worker/job_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/files.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/weights/model_files.h"
#include "services/worker/dataset.h"
#include "services/worker/spec_to_options.h"

namespace sinklora::worker {
namespace {

using std::chrono::milliseconds;
using trainer::v1::TrainingMetrics;

constexpr milliseconds kFirstBackoff(200);
constexpr milliseconds kLastBackoff(2000);
// Beside the run's own files in a checkpoint: what the trainer is told but the
// model does not need.
constexpr char kProgressFile[] = "progress.binpb";

}  // namespace

absl::Status JobRun::Train() {
  SL_RETURN_IF_ERROR(Prepare());
  SL_RETURN_IF_ERROR(Resume());
  while (run_->step() < spec_.steps()) {
    SL_RETURN_IF_ERROR(Step());
    const bool due = seat_.leads() && spec_.checkpoint_every_steps() > 0 &&
                     run_->step() % spec_.checkpoint_every_steps() == 0;
    if (due) SL_RETURN_IF_ERROR(CommitCheckpoint(StopCause::kShutdown));
  }
  return absl::OkStatus();
}

absl::Status JobRun::CommitCheckpoint(StopCause until) {
  const int64_t start_micros = options_.clock->MonotonicMicros();
  SL_ASSIGN_OR_RETURN(const auto dir,
                      TempDir::Create(options_.models->work_dir()));
  SL_RETURN_IF_ERROR(run_->SaveCheckpoint(dir->path()));
  TrainingMetrics progress;
  progress.set_step(run_->step());
  progress.set_total_tokens(total_tokens_);
  SL_RETURN_IF_ERROR(WriteFileAtomic(JoinPath(dir->path(), kProgressFile),
                                     progress.SerializeAsString()));
  trainer::v1::CommitCheckpointHeader header;
  *header.mutable_lease() = keeper_->lease();
  header.set_step(run_->step());
  // Measurements of the steps before a checkpoint must not be lost: an
  // attempt that goes on from it does not repeat them.
  SL_RETURN_IF_ERROR(Retry(until, [&] { return keeper_->Flush(); }));
  SL_RETURN_IF_ERROR(Retry(until, [&] {
    return options_.remote->CommitCheckpoint(header, dir->path(),
                                             keeper_->lost());
  }));
  committed_step_ = run_->step();
  options_.metrics->CheckpointDone(
      static_cast<double>(options_.clock->MonotonicMicros() - start_micros) *
      1e-6);
  return absl::OkStatus();
}

absl::Status JobRun::Finish(const trainer::v1::FinishJobHeader& header,
                            const std::string& result_dir) {
  SL_RETURN_IF_ERROR(
      Retry(StopCause::kLeaseLost, [&] { return keeper_->Flush(); }));
  return Retry(StopCause::kLeaseLost, [&] {
    return options_.remote->FinishJob(header, result_dir, keeper_->lost());
  });
}

absl::Status JobRun::FinishSucceeded(trainer::v1::FinishJobHeader header) {
  header.set_outcome(trainer::v1::JOB_STATE_SUCCEEDED);
  SL_ASSIGN_OR_RETURN(const auto dir,
                      TempDir::Create(options_.models->work_dir()));
  SL_RETURN_IF_ERROR(
      run_->WriteResult(spec_.base_model(), base_dir_, dir->path()));
  return Finish(header, dir->path());
}

absl::Status JobRun::Retry(StopCause until,
                           const std::function<absl::Status()>& call) {
  milliseconds backoff = kFirstBackoff;
  while (true) {
    const absl::Status status = call();
    if (IsLeaseLost(status)) {
      keeper_->MarkLost(std::string(status.message()));
      return absl::CancelledError(std::string(status.message()));
    }
    if (status.ok() || !IsTransient(status)) return status;
    LogWarning("job {}: trying again: {}", job_.name(),
               std::string(status.message()));
    if (keeper_->WaitFor(until, backoff)) {
      return absl::CancelledError("interrupted: " +
                                  std::string(status.message()));
    }
    backoff = std::min(backoff * 2, kLastBackoff);
  }
}

absl::Status JobRun::FetchSplit(curator::v1::Split split, int64_t max_examples,
                                std::vector<TrainingExample>* examples) {
  ExampleRequest request;
  request.dataset = spec_.dataset();
  request.digest = job_.dataset_digest();
  request.split = split;
  request.max_examples = max_examples;
  return Retry(StopCause::kShutdown, [&] {
    return FetchExamples(options_.remote, request, keeper_->interrupt(),
                         examples);
  });
}

absl::Status JobRun::FetchInputs() {
  SL_RETURN_IF_ERROR(Retry(StopCause::kShutdown, [&]() -> absl::Status {
    SL_ASSIGN_OR_RETURN(
        base_dir_,
        options_.models->Fetch(spec_.base_model(), job_.base_model_digest(),
                               keeper_->interrupt()));
    return absl::OkStatus();
  }));
  SL_RETURN_IF_ERROR(FetchSplit(curator::v1::SPLIT_TRAIN, 0, &train_));
  if (spec_.validate_every_steps() > 0) {
    SL_RETURN_IF_ERROR(FetchSplit(curator::v1::SPLIT_VALIDATION,
                                  spec_.validation_examples(), &validation_));
  }
  if (!train_.empty()) return absl::OkStatus();
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      fmt::format("dataset {} has no training examples", spec_.dataset()),
      {"DATASET_EMPTY", {{"dataset", spec_.dataset()}}});
}

absl::Status JobRun::Prepare() {
  SL_RETURN_IF_ERROR(FetchInputs());
  SL_ASSIGN_OR_RETURN(const auto files, ModelFiles::Open(base_dir_));
  SL_ASSIGN_OR_RETURN(const TrainingOptions training, ToTrainingOptions(spec_));
  SL_ASSIGN_OR_RETURN(const auto backends, BackendsFor(training));
  SL_ASSIGN_OR_RETURN(
      run_, TrainingRun::Create(backends, *files, training, seat_.place()));
  seat_.SetJoined();
  if (!seat_.leads()) return absl::OkStatus();
  return ReportPlan(files->config(), training, backends);
}

absl::StatusOr<std::span<kernels::Backend* const>> JobRun::BackendsFor(
    const TrainingOptions& training) const {
  const std::span<kernels::Backend* const> all = options_.backends;
  const trainer::v1::Lease& lease = keeper_->lease();
  if (lease.ranks() < 1 || lease.ranks() > static_cast<int>(all.size())) {
    return absl::InternalError(
        fmt::format("lease.ranks is {}, must be in [1, {}], the devices of the "
                    "worker",
                    lease.ranks(), all.size()));
  }
  const int context = training.context_parallel;
  if (lease.total_ranks() % context != 0) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        fmt::format("spec.context_parallel is {}, must divide the number of "
                    "devices of the {}, {}",
                    context,
                    seat_.alone() ? std::string("worker")
                                  : fmt::format("{} workers", lease.seats()),
                    lease.total_ranks()),
        {"DEVICES_DO_NOT_FIT",
         {{"context_parallel", fmt::format("{}", context)},
          {"devices", fmt::format("{}", lease.total_ranks())}}});
  }
  const auto used = static_cast<size_t>(lease.ranks());
  if (used < all.size()) {
    LogWarning(
        "job {}: accumulation_steps is {}, so {} of {} devices stay idle",
        job_.name(), training.accumulation_steps, all.size() - used,
        all.size());
  }
  return all.first(used);
}

absl::Status JobRun::ReportPlan(const LlamaConfig& config,
                                const TrainingOptions& training,
                                std::span<kernels::Backend* const> backends) {
  size_t longest = 0;
  for (const TrainingExample& example : train_) {
    longest = std::max(longest, example.token_ids.size());
  }
  SL_ASSIGN_OR_RETURN(
      TrainingPlan plan,
      PlanTraining(config, training, static_cast<int64_t>(longest)));
  plan.trainable_parameters = run_->trainable_parameters();
  if (!validation_.empty()) {
    plan.peak_bytes +=
        std::max<int64_t>(0, plan.validation_bytes - plan.activation_bytes);
  }
  std::vector<std::string> descriptions;
  for (const kernels::Backend* backend : backends) {
    descriptions.push_back(backend->description());
  }
  keeper_->ReportPlan(
      ToResolvedPlan(plan, descriptions, keeper_->lease().total_ranks()));
  return absl::OkStatus();
}

absl::Status JobRun::Resume() {
  if (!seat_.leads()) {
    SL_RETURN_IF_ERROR(run_->LoadCheckpoint(""));
    committed_step_ = run_->step();
    return absl::OkStatus();
  }
  int64_t broken_step = 0;
  while (true) {
    std::unique_ptr<TempDir> dir;
    int64_t step = 0;
    const absl::Status found =
        Retry(StopCause::kShutdown, [&]() -> absl::Status {
          // A transfer that was cut leaves files behind.
          SL_ASSIGN_OR_RETURN(dir,
                              TempDir::Create(options_.models->work_dir()));
          SL_ASSIGN_OR_RETURN(step, options_.remote->DownloadCheckpoint(
                                        keeper_->lease(), broken_step,
                                        dir->path(), keeper_->interrupt()));
          return absl::OkStatus();
        });
    if (absl::IsNotFound(found)) {
      return seat_.alone() ? absl::OkStatus() : run_->LoadCheckpoint("");
    }
    SL_RETURN_IF_ERROR(found);
    const absl::Status loaded = LoadCheckpoint(dir->path(), step);
    // What this run is not made for (other options, a newer format) no older
    // checkpoint will mend.
    const bool broken = absl::IsDataLoss(loaded) || absl::IsNotFound(loaded) ||
                        absl::IsInvalidArgument(loaded);
    if (!broken) return loaded;
    LogWarning(
        "job {}: checkpoint {} cannot be loaded, asking for the one "
        "before: {}",
        job_.name(), step, std::string(loaded.message()));
    broken_step = step;
  }
}

absl::Status JobRun::LoadCheckpoint(const std::string& dir, int64_t step) {
  SL_ASSIGN_OR_RETURN(const std::string bytes,
                      ReadFile(JoinPath(dir, kProgressFile)));
  TrainingMetrics progress;
  if (!progress.ParseFromString(bytes) || progress.step() != step) {
    return absl::DataLossError(fmt::format(
        "{} of the checkpoint at step {} is broken", kProgressFile, step));
  }
  // Last: with it other workers have the checkpoint, too.
  SL_RETURN_IF_ERROR(run_->LoadCheckpoint(dir));
  total_tokens_ = progress.total_tokens();
  committed_step_ = run_->step();
  LogInfo("job {}: going on from step {}", job_.name(), run_->step());
  return absl::OkStatus();
}

absl::Status JobRun::Step() {
  std::vector<TrainingExample> batch;
  const auto indices = ExamplesOfStep(
      spec_.seed(), static_cast<int64_t>(train_.size()),
      int64_t{spec_.micro_batch_examples()} * spec_.accumulation_steps(),
      run_->step());
  for (const int64_t index : indices) {
    batch.push_back(train_[static_cast<size_t>(index)]);
  }
  const int64_t start_micros = options_.clock->MonotonicMicros();
  const auto step = run_->Step(batch, keeper_->interrupt());
  if (!step.ok()) return ExplainStep(step.status());
  const double seconds =
      static_cast<double>(options_.clock->MonotonicMicros() - start_micros) *
      1e-6;
  total_tokens_ += step->tokens;
  TrainingMetrics metrics;
  const absl::Status validated = Validate(&metrics);
  // A step that is done counts, even when its validation was interrupted.
  if (seat_.leads()) Report(*step, seconds, std::move(metrics));
  return validated;
}

void JobRun::Report(const StepMetrics& step, double seconds,
                    TrainingMetrics metrics) {
  metrics.set_step(step.step);
  metrics.set_loss(step.loss);
  metrics.set_gradient_norm(step.gradient_norm);
  metrics.set_learning_rate(step.learning_rate);
  metrics.set_step_seconds(seconds);
  metrics.set_tokens_per_second(
      seconds > 0 ? static_cast<double>(step.tokens) / seconds : 0);
  metrics.set_total_tokens(total_tokens_);
  keeper_->Report(metrics);
  options_.metrics->StepDone(metrics, step.tokens);
}

absl::Status JobRun::ExplainStep(const absl::Status& status) {
  if (absl::IsCancelled(status) || !GetErrorDetail(status).reason.empty()) {
    return status;
  }
  const absl::Status annotated =
      Annotate(status, fmt::format("step {}", run_->step() + 1));
  if (!absl::IsInvalidArgument(status)) return annotated;
  return MakeError(status.code(), std::string(annotated.message()),
                   {"INVALID_EXAMPLE", {{"dataset", spec_.dataset()}}});
}

absl::Status JobRun::Validate(TrainingMetrics* metrics) {
  const int64_t every = spec_.validate_every_steps();
  if (every == 0 || validation_.empty()) return absl::OkStatus();
  if (run_->step() % every != 0 && run_->step() != spec_.steps()) {
    return absl::OkStatus();
  }
  SL_ASSIGN_OR_RETURN(const double loss,
                      run_->ValidationLoss(validation_, keeper_->interrupt()));
  metrics->set_validation_loss(loss);
  return absl::OkStatus();
}

}  // namespace sinklora::worker
