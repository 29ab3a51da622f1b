// Checks of attention params against the contract of attention.h, shared by
// every backend. Reads nothing but the params and the i32 tensors whose values
// the contract bounds; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_VALIDATE_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_VALIDATE_H_

#include "kernels/attention/attention.h"
#include "kernels/status.h"

namespace sinklora::kernels {

Status Validate(const AttentionForwardParams& p);
Status Validate(const AttentionBackwardParams& p);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_VALIDATE_H_
