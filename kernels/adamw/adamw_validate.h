// Checks of adamw params against the contract of adamw.h, shared by every
// backend. Reads nothing but the params and the i32 tensors whose values the
// contract bounds; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ADAMW_ADAMW_VALIDATE_H_
#define SINKLORA_KERNELS_ADAMW_ADAMW_VALIDATE_H_

#include "kernels/adamw/adamw.h"
#include "kernels/status.h"
#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const AdamWParams& p, Values values = Values::kOnHost);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_ADAMW_ADAMW_VALIDATE_H_
