// Checks of rope params against the contract of rope.h, shared by every
// backend. Reads nothing but the params and the i32 tensors whose values the
// contract bounds; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ROPE_ROPE_VALIDATE_H_
#define SINKLORA_KERNELS_ROPE_ROPE_VALIDATE_H_

#include "kernels/rope/rope.h"
#include "kernels/status.h"
#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const RopeParams& p, Values values = Values::kOnHost);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_ROPE_ROPE_VALIDATE_H_
