// Checks of bias params against the contract of bias.h, shared by every
// backend. Reads nothing but the params; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_BIAS_BIAS_VALIDATE_H_
#define SINKLORA_KERNELS_BIAS_BIAS_VALIDATE_H_

#include "kernels/bias/bias.h"
#include "kernels/status.h"

namespace sinklora::kernels {

Status Validate(const BiasForwardParams& p);
Status Validate(const BiasBackwardParams& p);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_BIAS_BIAS_VALIDATE_H_
