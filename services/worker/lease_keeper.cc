// SPDX-License-Identifier: Apache-2.0
#include "services/worker/lease_keeper.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/status.h"

namespace sinklora::worker {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// Measurements wait at most this long: someone may be watching.
constexpr microseconds kReportPeriod(1'000'000);
// After a failed renewal, so many tries fit into the time that is left.
constexpr int kTriesAPeriod = 5;

}  // namespace

LeaseKeeper::LeaseKeeper(Remote* remote, Clock* clock, trainer::v1::Lease lease,
                         int64_t leased_micros)
    : remote_(remote),
      clock_(clock),
      lease_(std::move(lease)),
      period_(static_cast<int64_t>(lease_.ttl_seconds() * 1e6 / 3)),
      renewed_micros_(leased_micros),
      thread_([this] { Run(); }) {}

LeaseKeeper::~LeaseKeeper() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

void LeaseKeeper::Report(const trainer::v1::TrainingMetrics& metrics) {
  MutexLock lock(&mutex_);
  pending_.push_back(metrics);
  wake_.NotifyAll();
}

void LeaseKeeper::ReportPlan(const trainer::v1::ResolvedPlan& plan) {
  MutexLock lock(&mutex_);
  plan_ = plan;
  ++plan_reports_;
  wake_.NotifyAll();
}

absl::Status LeaseKeeper::Flush() { return Renew(/*release=*/false); }

absl::Status LeaseKeeper::Release(const std::string& lost_reason) {
  return Renew(/*release=*/true, lost_reason);
}

void LeaseKeeper::PublishGroup(const std::string& group_id) {
  MutexLock lock(&mutex_);
  own_group_id_ = group_id;
}

std::string LeaseKeeper::group_id() const {
  MutexLock lock(&mutex_);
  return group_id_;
}

void LeaseKeeper::OnStop(std::function<void(StopCause)> on_stop) {
  MutexLock lock(&mutex_);
  on_stop_ = std::move(on_stop);
  if (on_stop_ && cause_ != StopCause::kNone) on_stop_(cause_);
}

void LeaseKeeper::RequestShutdown() {
  MutexLock lock(&mutex_);
  Raise(StopCause::kShutdown, "the worker shuts down");
}

void LeaseKeeper::MarkLost(const std::string& why) {
  MutexLock lock(&mutex_);
  Raise(StopCause::kLeaseLost, why);
}

StopCause LeaseKeeper::cause() const {
  MutexLock lock(&mutex_);
  return cause_;
}

void LeaseKeeper::Raise(StopCause cause, const std::string& why) {
  if (cause <= cause_) return;
  LogInfo("job {}: {}", lease_.job(), why);
  cause_ = cause;
  if (cause == StopCause::kLeaseLost) lost_.Cancel();
  // First: one who is interrupted may ask what that did.
  if (on_stop_) on_stop_(cause);
  interrupt_.Cancel();
  wake_.NotifyAll();
}

bool LeaseKeeper::WaitFor(StopCause cause, milliseconds timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  MutexLock lock(&mutex_);
  while (cause_ < cause) {
    const auto left = end - std::chrono::steady_clock::now();
    if (left.count() <= 0) return false;
    wake_.WaitFor(&mutex_, left);
  }
  return true;
}

absl::Status LeaseKeeper::Renew(bool release, const std::string& lost_reason) {
  MutexLock send_lock(&send_mutex_);
  trainer::v1::HeartbeatRequest request;
  *request.mutable_lease() = lease_;
  request.set_release(release);
  request.set_lost_reason(lost_reason);
  int64_t sent_plan = 0;
  {
    MutexLock lock(&mutex_);
    if (released_ || cause_ == StopCause::kLeaseLost) {
      return MakeError(
          absl::StatusCode::kFailedPrecondition,
          "the lease of job " + lease_.job() + " is no longer ours",
          {"STALE_LEASE_EPOCH", {{"job", lease_.job()}}});
    }
    request.mutable_metrics()->Assign(pending_.begin(), pending_.end());
    if (plan_) *request.mutable_plan() = *plan_;
    sent_plan = plan_reports_;
    request.set_group_id(own_group_id_);
  }
  const int64_t sent_micros = clock_->MonotonicMicros();
  const auto response =
      remote_->Heartbeat(request, static_cast<double>(period_.count()) * 1e-6);

  MutexLock lock(&mutex_);
  if (response.ok()) {
    renewed_micros_ = sent_micros;
    released_ = release;
    if (released_) wake_.NotifyAll();
    pending_.erase(pending_.begin(), pending_.begin() + request.metrics_size());
    group_id_ = response->group_id();
    // One that was reported while this was on its way has yet to be sent.
    if (plan_reports_ == sent_plan) plan_.reset();
    if (response->cancel_requested()) {
      Raise(StopCause::kCancelRequested, "a cancel was requested");
    }
    return absl::OkStatus();
  }
  const std::string why(response.status().message());
  if (IsLeaseLost(response.status())) {
    Raise(StopCause::kLeaseLost, why);
  } else if (clock_->MonotonicMicros() - renewed_micros_ >=
             2 * period_.count()) {
    Raise(StopCause::kLeaseLost,
          "no renewal for two thirds of the lease's "
          "time, giving it up: " +
              why);
  } else {
    LogWarning("job {}: heartbeat failed: {}", lease_.job(), why);
  }
  return response.status();
}

void LeaseKeeper::Run() {
  using SteadyClock = std::chrono::steady_clock;
  auto last_sent = SteadyClock::now();
  bool failed = false;
  while (true) {
    {
      MutexLock lock(&mutex_);
      while (!stopped_ && !released_ && cause_ != StopCause::kLeaseLost) {
        microseconds wait = failed ? period_ / kTriesAPeriod : period_;
        if (!pending_.empty() || plan_) wait = std::min(wait, kReportPeriod);
        const auto left = last_sent + wait - SteadyClock::now();
        if (left.count() <= 0) break;
        wake_.WaitFor(&mutex_, left);
      }
      if (stopped_ || released_ || cause_ == StopCause::kLeaseLost) return;
    }
    last_sent = SteadyClock::now();
    failed = !Renew(/*release=*/false).ok();
  }
}

}  // namespace sinklora::worker
