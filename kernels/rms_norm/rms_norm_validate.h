// Checks of rms_norm params against the contract of rms_norm.h, shared by every
// backend. Reads nothing but the params and the i32 tensors whose values the
// contract bounds; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_RMS_NORM_RMS_NORM_VALIDATE_H_
#define SINKLORA_KERNELS_RMS_NORM_RMS_NORM_VALIDATE_H_

#include "kernels/rms_norm/rms_norm.h"
#include "kernels/status.h"

namespace sinklora::kernels {

Status Validate(const RmsNormForwardParams& p);
Status Validate(const RmsNormBackwardParams& p);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_RMS_NORM_RMS_NORM_VALIDATE_H_
