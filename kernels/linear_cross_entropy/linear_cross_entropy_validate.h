// Checks of linear_cross_entropy params against the contract of
// linear_cross_entropy.h, shared by every backend. Reads nothing but the params
// and the i32 tensors whose values the contract bounds; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_LINEAR_CROSS_ENTROPY_LINEAR_CROSS_ENTROPY_VALIDATE_H_
#define SINKLORA_KERNELS_LINEAR_CROSS_ENTROPY_LINEAR_CROSS_ENTROPY_VALIDATE_H_

#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/status.h"
#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const LinearCrossEntropyParams& p,
                Values values = Values::kOnHost);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_LINEAR_CROSS_ENTROPY_LINEAR_CROSS_ENTROPY_VALIDATE_H_
