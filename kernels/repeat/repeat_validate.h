// Checks of repeat params against the contract of repeat.h, shared by every
// backend. Reads nothing but the params; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_REPEAT_REPEAT_VALIDATE_H_
#define SINKLORA_KERNELS_REPEAT_REPEAT_VALIDATE_H_

#include "kernels/repeat/repeat.h"
#include "kernels/status.h"

namespace sinklora::kernels {

// What only the device can read is not looked at.
Status Validate(const RepeatParams& p);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_REPEAT_REPEAT_VALIDATE_H_
