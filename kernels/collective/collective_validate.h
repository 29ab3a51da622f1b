// The checks of collectives that all backends share.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_COLLECTIVE_COLLECTIVE_VALIDATE_H_
#define SINKLORA_KERNELS_COLLECTIVE_COLLECTIVE_VALIDATE_H_

#include <span>

#include "kernels/collective/collective.h"
#include "kernels/status.h"

namespace sinklora::kernels {

Status Validate(const JoinCollectiveParams& p);
Status ValidateCollective(const char* op, std::span<const TensorView> tensors);
Status ValidateRoot(int root, int size);
// `what`: "sends" or "receives" of an exchange.
Status ValidateMessages(const char* what,
                        std::span<const CollectiveMessage> messages, int rank,
                        int size);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_COLLECTIVE_COLLECTIVE_VALIDATE_H_
