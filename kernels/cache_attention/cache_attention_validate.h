// Checks of cache_attention params against the contract of cache_attention.h,
// shared by every backend. Reads nothing but the params and the i32 tensors
// whose values the contract bounds; writes nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ATTENTION_VALIDATE_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ATTENTION_VALIDATE_H_

#include "kernels/cache_attention/cache_attention.h"
#include "kernels/status.h"
#include "kernels/validator.h"

namespace sinklora::kernels {

// The cache itself, for every op that takes one.
void CheckCache(const CacheView& cache, Validator* check);

Status Validate(const CacheWriteParams& p, Values values = Values::kOnHost);
Status Validate(const CacheAttentionParams& p, Values values = Values::kOnHost);
Status Validate(const CacheColumnSumsParams& p);
Status Validate(const CacheCompactParams& p, Values values = Values::kOnHost);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ATTENTION_VALIDATE_H_
