// SPDX-License-Identifier: Apache-2.0
#include "services/worker/remote.h"

#include "common/base/status.h"

namespace sinklora::worker {

bool IsTransient(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kAborted:
    // A server that drains cancels what is still running.
    case absl::StatusCode::kCancelled:
      return true;
    case absl::StatusCode::kResourceExhausted:
      return GetErrorDetail(status).reason == "EXECUTOR_FULL";
    default:
      return false;
  }
}

bool IsLeaseLost(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) &&
         GetErrorDetail(status).reason == "STALE_LEASE_EPOCH";
}

}  // namespace sinklora::worker
