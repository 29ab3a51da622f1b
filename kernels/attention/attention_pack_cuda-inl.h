// Conversion of operands of attention to bf16.
//
// A key that a query does not see still takes part in products, with weight 0,
// and 0 * NaN is NaN. So elements that are not finite are packed as zeros where
// such products follow, and marked: for values in `marks`, for backward by a
// NaN in the row's saved sum.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_PACK_CUDA_INL_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_PACK_CUDA_INL_H_

#include <cstdint>

#include "kernels/attention/attention_tile_cuda-inl.h"
#include "kernels/cuda/device.h"

namespace sinklora::kernels::cuda {

inline constexpr int kPackThreads = 256;

// Rows with an element that is not finite. Zero before packing.
struct Marks {
  uint8_t* bad = nullptr;  // [heads, tokens]
  int* any = nullptr;      // whether there are some
};

SINKLORA_DEVICE bool IsFinite(float x) { return fabsf(x) <= 3.402823466e38f; }

SINKLORA_DEVICE void LoadEight(const float* from, bool units, float x[8]) {
  if (units) {
    const float4 low = reinterpret_cast<const float4*>(from)[0];
    const float4 high = reinterpret_cast<const float4*>(from)[1];
    x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
    x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
  } else {
    SINKLORA_UNROLL
    for (int i = 0; i < 8; ++i) x[i] = from[i];
  }
}

SINKLORA_DEVICE uint4 PackEight(const float x[8]) {
  return make_uint4(PackBf16(x[0], x[1]), PackBf16(x[2], x[3]),
                    PackBf16(x[4], x[5]), PackBf16(x[6], x[7]));
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_PACK_CUDA_INL_H_
