// Checks of cache_decode params against the contract of cache_decode.h, shared
// by every backend. Reads nothing but the params and the positions; writes
// nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_VALIDATE_H_
#define SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_VALIDATE_H_

#include "kernels/cache_decode/cache_decode.h"
#include "kernels/status.h"
#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const CacheDecodeParams& p, Values values = Values::kOnHost);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_VALIDATE_H_
