// SPDX-License-Identifier: Apache-2.0
#include "services/cli/train_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "common/base/status.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/train_names.h"

namespace sinklora::cli {
namespace {

namespace v1 = trainer::v1;

constexpr double kGiveUpSeconds = 60;
constexpr std::chrono::milliseconds kFirstPause(200);
constexpr std::chrono::milliseconds kLongestPause(5000);

bool WorthRetrying(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kDeadlineExceeded;
}

class Watch {
 public:
  Watch(Session* session, TrainerClient* client, std::string job,
        int64_t from_sequence, int64_t total_steps)
      : session_(session),
        client_(client),
        job_(std::move(job)),
        next_sequence_(from_sequence),
        total_steps_(total_steps) {}

  absl::Status Run();

 private:
  void OnEvent(const v1::JobEvent& event);
  void OnStateChange(const v1::JobEvent& event);
  void OnMetrics(const v1::TrainingMetrics& metrics);
  absl::Status Outcome();

  Session* const session_;
  TrainerClient* const client_;
  const std::string job_;
  int64_t next_sequence_;
  const int64_t total_steps_;
  int64_t heard_micros_ = 0;
  std::string live_line_;
};

void Watch::OnStateChange(const v1::JobEvent& event) {
  const v1::StateChange& change = event.state_change();
  // The last live line stays on the screen.
  if (!live_line_.empty()) session_->output().Print(live_line_ + "\n");
  live_line_.clear();
  session_->output().Print(fmt::format(
      "{} {}{}{}\n", job_, NameOf(JobStates(), change.state()),
      event.attempt() > 1 ? fmt::format(" (attempt {})", event.attempt()) : "",
      change.reason().empty() ? "" : ": " + change.reason()));
}

void Watch::OnMetrics(const v1::TrainingMetrics& metrics) {
  const std::string line = StepLine(metrics, total_steps_);
  const bool live = session_->output().err_is_terminal();
  live_line_.clear();
  if (live && !metrics.has_validation_loss()) {
    session_->output().SetStatusLine(line);
    live_line_ = line;
  } else {
    session_->output().Print(line + "\n");
  }
}

void Watch::OnEvent(const v1::JobEvent& event) {
  next_sequence_ = event.sequence() + 1;
  heard_micros_ = session_->clock()->MonotonicMicros();
  if (session_->output().json()) {
    session_->output().PrintJsonLine(ToJson(event));
    return;
  }
  if (event.has_state_change()) OnStateChange(event);
  if (event.has_metrics()) OnMetrics(event.metrics());
  if (event.has_checkpoint()) {
    session_->output().Print(
        fmt::format("checkpoint at step {}\n", event.checkpoint().step()));
  }
}

absl::Status Watch::Outcome() {
  SL_ASSIGN_OR_RETURN(const v1::TrainingJob job, client_->GetJob(job_));
  session_->output().ClearStatusLine();
  if (job.state() == v1::JOB_STATE_SUCCEEDED) {
    session_->output().Note(
        fmt::format("{} is registered", job.resolved().output_name()));
    return absl::OkStatus();
  }
  return JobEndedError(
      fmt::format("{} {}: {}{}", job_, NameOf(JobStates(), job.state()),
                  job.error_reason().empty() ? "" : job.error_reason() + ": ",
                  job.state_reason()));
}

absl::Status Watch::Run() {
  heard_micros_ = session_->clock()->MonotonicMicros();
  auto pause = kFirstPause;
  while (true) {
    v1::WatchTrainingJobRequest request;
    request.set_name(job_);
    request.set_from_sequence(next_sequence_);
    const int64_t before = next_sequence_;
    absl::Status status = client_->WatchJob(
        request, [this](const v1::JobEvent& event) { OnEvent(event); });
    if (status.ok()) status = Outcome();
    if (!WorthRetrying(status)) return status;
    if (next_sequence_ > before) pause = kFirstPause;
    const double silence =
        static_cast<double>(session_->clock()->MonotonicMicros() -
                            heard_micros_) *
        1e-6;
    if (silence > kGiveUpSeconds) return status;
    session_->output().SetStatusLine("connection lost, trying again");
    if (session_->interrupt()->WaitFor(pause)) return status;
    pause = std::min(2 * pause, kLongestPause);
  }
}

}  // namespace

std::string StepLine(const v1::TrainingMetrics& metrics, int64_t total_steps) {
  const auto width = std::to_string(total_steps).size();
  std::string line = fmt::format(
      "step {:>{}}/{}  loss {:.4f}  lr {:.2e}  {:>7} tok/s  grad {:.3g}",
      metrics.step(), width, total_steps, metrics.loss(),
      metrics.learning_rate(),
      FormatCount(static_cast<int64_t>(metrics.tokens_per_second())),
      metrics.gradient_norm());
  if (metrics.has_validation_loss()) {
    line += fmt::format("  validation {:.4f}", metrics.validation_loss());
  }
  const int64_t left = total_steps - metrics.step();
  if (left > 0) {
    line += "  " +
            FormatSeconds(metrics.step_seconds() * static_cast<double>(left)) +
            " left";
  }
  return line;
}

absl::Status WatchJob(Session* session, const std::string& job,
                      int64_t from_sequence) {
  SL_ASSIGN_OR_RETURN(TrainerClient * client, session->Trainer());
  SL_ASSIGN_OR_RETURN(const v1::TrainingJob now, client->GetJob(job));
  Watch watch(session, client, job, from_sequence, now.resolved().steps());
  const absl::Status status = watch.Run();
  if (session->interrupt()->interrupted()) {
    session->output().Note(fmt::format(
        "{} goes on; `sinklora train cancel {}` stops it", job, job));
  }
  return status;
}

}  // namespace sinklora::cli
