// Storing rows of keys and values in slots of a cache, on CUDA.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_WRITE_CUDA_INL_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_WRITE_CUDA_INL_H_

#include <cstdint>
#include <limits>

#include "kernels/cuda/device_util.h"

namespace sinklora::kernels::cuda {

inline constexpr float kLargest = std::numeric_limits<float>::max();
inline constexpr float kLeastNormal = std::numeric_limits<float>::min();

// k or v of a cache, whatever its dtype.
struct Strided {
  char* data;
  int64_t head, slot;  // strides in elements
};
inline Strided StridedOf(const TensorView& x) {
  return {x.as<char>(), x.stride[0], x.stride[1]};
}

// New k or v and where they go.
struct NewRows {
  const float* from;  // [tokens, kv_heads, head_dim]
  int64_t from_token, from_head;
  Strided to;
  float* scale;  // [kv_heads, slots] with i8
  int64_t scale_head;
};

inline NewRows NewRowsOf(const ConstTensorView& from, const TensorView& to,
                         const TensorView& scale) {
  return {from.as<float>(), from.stride[0],    from.stride[1],
          StridedOf(to),    scale.as<float>(), scale.stride[0]};
}

// Codes and scale of a row, by one warp; see EncodeInt8Row.
SINKLORA_DEVICE void EncodeRow(const float* x, int n, int8_t* codes,
                               float* scale) {
  float top = 0.0f;
  bool finite = true;
  for (int i = threadIdx.x; i < n; i += kWarpThreads) {
    const float magnitude = fabsf(x[i]);
    finite = finite && magnitude <= kLargest;  // not for NaN
    top = fmaxf(top, magnitude);
  }
  finite = Ballot(!finite) == 0;
  const float step = MaxOfLanes(top) / 127.0f;
  const bool usable = finite && step >= kLeastNormal;
  for (int i = threadIdx.x; i < n; i += kWarpThreads) {
    codes[i] = usable ? static_cast<int8_t>(rintf(x[i] / step)) : int8_t{0};
  }
  if (threadIdx.x == 0) *scale = !finite ? NAN : (usable ? step : 0.0f);
}

// Row of token t and kv head h to a slot, by one warp.
SINKLORA_DEVICE void WriteRow(const NewRows& part, DType dtype, int64_t t,
                              int64_t h, int64_t slot, int head_dim) {
  const float* from = part.from + t * part.from_token + h * part.from_head;
  const int64_t at = h * part.to.head + slot * part.to.slot;
  if (dtype == DType::kI8) {
    EncodeRow(from, head_dim, reinterpret_cast<int8_t*>(part.to.data) + at,
              part.scale + h * part.scale_head + slot);
    return;
  }
  for (int i = threadIdx.x; i < head_dim; i += kWarpThreads) {
    if (dtype == DType::kBF16) {
      reinterpret_cast<bf16_t*>(part.to.data)[at + i] = Bf16FromFloat(from[i]);
    } else {
      reinterpret_cast<float*>(part.to.data)[at + i] = from[i];
    }
  }
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_WRITE_CUDA_INL_H_
