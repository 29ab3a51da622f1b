// Storing one row of keys or values in a slot of a cache, on the CPU.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ROW_CPU_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ROW_CPU_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

// from [head_dim] f32 -> k or v of a cache, and with i8 its scale. Thread-safe
// for different slots.
void WriteCacheRow(const float* from, int64_t kv_head, int64_t slot,
                   const TensorView& to, const TensorView& scale);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ROW_CPU_H_
