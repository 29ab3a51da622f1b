// Small additions to absl::Status that Debian's Abseil lacks: macros, errors
// with a machine-readable reason, and the conversion from kernel-layer
// statuses.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_STATUS_H_
#define SINKLORA_COMMON_BASE_STATUS_H_

#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/status.h"

namespace sinklora {

// Returns early with the status of `expr` when it is not OK.
#define SL_RETURN_IF_ERROR(expr)             \
  do {                                       \
    ::absl::Status sl_status_ = (expr);      \
    if (!sl_status_.ok()) return sl_status_; \
  } while (false)

#define SL_CONCAT_INNER_(a, b) a##b
#define SL_CONCAT_(a, b) SL_CONCAT_INNER_(a, b)
#define SL_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                              \
  if (!tmp.ok()) return std::move(tmp).status();  \
  lhs = std::move(tmp).value()

// SL_ASSIGN_OR_RETURN(auto x, F()): assigns the value of a StatusOr or returns
// its status.
#define SL_ASSIGN_OR_RETURN(lhs, expr) \
  SL_ASSIGN_OR_RETURN_IMPL_(SL_CONCAT_(sl_statusor_, __LINE__), lhs, expr)

// Returns early with the absl form of a kernels::Status.
#define SL_RETURN_IF_KERNEL_ERROR(expr) \
  SL_RETURN_IF_ERROR(::sinklora::ToAbsl(expr))

absl::Status ToAbsl(const kernels::Status& status);

// What google.rpc.ErrorInfo carries over the wire: reason in UPPER_SNAKE_CASE,
// and every dynamic part of the message by name.
struct ErrorDetail {
  std::string reason;
  std::map<std::string, std::string> metadata;
};

// Status with an ErrorDetail attached as a payload; common/rpc turns it into
// google.rpc.ErrorInfo.
absl::Status MakeError(absl::StatusCode code, const std::string& message,
                       ErrorDetail detail);
// The attached detail; an empty reason when there is none.
ErrorDetail GetErrorDetail(const absl::Status& status);
// True for errors of the way to a peer (cut, timed out, cancelled): what has
// arrived is good, and the rest may follow.
bool MayResume(const absl::Status& status);
// The same code and payload with `prefix: ` before the message. OK stays OK.
absl::Status Annotate(const absl::Status& status, const std::string& prefix);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_BASE_STATUS_H_
