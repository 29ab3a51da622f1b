// SPDX-License-Identifier: Apache-2.0
#include "services/cli/exit_code.h"

#include "common/base/status.h"

namespace sinklora::cli {
namespace {

constexpr char kUsageReason[] = "USAGE";
constexpr char kJobEndedReason[] = "JOB_ENDED_WITHOUT_SUCCESS";

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  const std::string reason = GetErrorDetail(status).reason;
  if (reason == kUsageReason) return kExitUsage;
  if (reason == kJobEndedReason) return kExitJobEnded;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kExitRefused;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
      return kExitUnavailable;
    default:
      return kExitInternal;
  }
}

absl::Status UsageError(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, message,
                   {kUsageReason, {}});
}

absl::Status JobEndedError(const std::string& message) {
  return MakeError(absl::StatusCode::kAborted, message, {kJobEndedReason, {}});
}

}  // namespace sinklora::cli
