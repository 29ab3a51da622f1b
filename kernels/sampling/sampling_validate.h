// Checks of sample_tokens params against the contract of sampling.h, shared by
// every backend. Reads nothing but the params; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_SAMPLING_SAMPLING_VALIDATE_H_
#define SINKLORA_KERNELS_SAMPLING_SAMPLING_VALIDATE_H_

#include "kernels/sampling/sampling.h"
#include "kernels/status.h"

namespace sinklora::kernels {

Status Validate(const SampleTokensParams& p);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_SAMPLING_SAMPLING_VALIDATE_H_
