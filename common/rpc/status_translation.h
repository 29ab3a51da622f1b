// The one place where absl::Status becomes grpc::Status and back, with
// google.rpc.ErrorInfo (domain "sinklora") in the details. Messages are cut at
// 1,024 characters.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_STATUS_TRANSLATION_H_
#define SINKLORA_COMMON_RPC_STATUS_TRANSLATION_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace sinklora {

// Every error gets an ErrorInfo: the ErrorDetail of the status, or a reason
// derived from its code.
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_RPC_STATUS_TRANSLATION_H_
