// Copies of float rows between storage types, vectorised. Pointers need no
// alignment; ranges must not overlap.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_CONVERT_H_
#define SINKLORA_KERNELS_CPU_CONVERT_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

void ConvertToBf16(const float* from, bf16_t* to, int64_t n);
void ConvertToF32(const bf16_t* from, float* to, int64_t n);

// Copies `n` elements, converting where the dtypes differ.
void CopyElements(const void* from, DType from_dtype, void* to, DType to_dtype,
                  int64_t n);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_CONVERT_H_
