// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/handlers.h"

#include <utility>

#include "common/base/clock.h"
#include "common/base/exceptions.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/rpc/status_translation.h"
#include "common/rpc/thread_order.h"

namespace sinklora::rpc_internal {
namespace {

// Errors that are our fault rather than the caller's.
bool IsServerFault(absl::StatusCode code) {
  return code == absl::StatusCode::kInternal ||
         code == absl::StatusCode::kUnknown ||
         code == absl::StatusCode::kDataLoss;
}

}  // namespace

Call::Call(const RpcContext& rpc, const char* method)
    : rpc_(rpc),
      method_(method),
      start_micros_(RealClock()->MonotonicMicros()),
      cancellation_(std::make_shared<Cancellation>()) {
  NoteCallStarts();
  rpc_.metrics
      ->GetCounter("sinklora_rpc_started_total", "RPCs started.",
                   {{"service", rpc_.service}, {"method", method_}})
      ->Increment();
  InFlight()->Add(1);
}

Gauge* Call::InFlight() {
  return rpc_.metrics->GetGauge("sinklora_rpc_in_flight",
                                "RPCs that are not finished.",
                                {{"service", rpc_.service}});
}

absl::Status Call::Run(const std::function<absl::Status()>& handler) {
  if (cancellation_->cancelled()) {
    return absl::CancelledError("cancelled before it started");
  }
  std::string what;
  absl::Status status = CatchExceptions(handler, &what);
  if (!what.empty()) LogError("{}.{}: {}", rpc_.service, method_, what);
  return status;
}

bool Call::Submit(std::function<void()> task) {
  return rpc_.executor->Submit(std::move(task));
}

absl::Status Call::ExecutorFull() const {
  return MakeError(absl::StatusCode::kResourceExhausted,
                   rpc_.service + " is busy: too many calls are waiting",
                   {"EXECUTOR_FULL", {{"service", rpc_.service}}});
}

grpc::Status Call::Complete(const absl::Status& status) {
  if (IsServerFault(status.code())) {
    LogError("{}.{}: {}", rpc_.service, method_, status.ToString());
  }
  const std::string code(absl::StatusCodeToString(status.code()));
  const int64_t micros = RealClock()->MonotonicMicros() - start_micros_;
  rpc_.metrics
      ->GetCounter(
          "sinklora_rpc_handled_total", "RPCs finished, by status code.",
          {{"service", rpc_.service}, {"method", method_}, {"code", code}})
      ->Increment();
  rpc_.metrics
      ->GetHistogram("sinklora_rpc_duration_seconds",
                     "Time from arrival of an RPC to its status.",
                     LatencyBuckets(),
                     {{"service", rpc_.service}, {"method", method_}})
      ->Observe(static_cast<double>(micros) * 1e-6);
  InFlight()->Add(-1);
  NoteCallEnds();
  return ToGrpc(status);
}

}  // namespace sinklora::rpc_internal
