// Checks of swiglu params against the contract of swiglu.h, shared by every
// backend. Reads nothing but the params and the i32 tensors whose values the
// contract bounds; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_SWIGLU_SWIGLU_VALIDATE_H_
#define SINKLORA_KERNELS_SWIGLU_SWIGLU_VALIDATE_H_

#include "kernels/status.h"
#include "kernels/swiglu/swiglu.h"

namespace sinklora::kernels {

Status Validate(const SwiGluForwardParams& p);
Status Validate(const SwiGluBackwardParams& p);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_SWIGLU_SWIGLU_VALIDATE_H_
