// A slot cache as the reference kernels read it, in double.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_REFERENCE_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_REFERENCE_H_

#include <cstdint>

#include "kernels/cache_attention/cache_attention.h"
#include "kernels/reference/access.h"

namespace sinklora::kernels::reference {

inline bool Visible(const CacheView& cache, int64_t window, int64_t kv,
                    int64_t slot, int32_t position) {
  const int32_t stored = LoadInt(cache.positions, kv, slot);
  return stored >= 0 && stored <= position &&
         (window == 0 || position - stored < window);
}

// Element of k or v.
inline double Stored(const TensorView& x, const TensorView& scale, int64_t kv,
                     int64_t slot, int64_t d) {
  if (x.dtype != DType::kI8) return Load(x, kv, slot, d);
  return Load(scale, kv, slot) *
         x.as<int8_t>()[kv * x.stride[0] + slot * x.stride[1] + d];
}

// Of query row (t, h) of q [tokens, heads, head_dim] with the key of a slot.
inline double Dot(const ConstTensorView& q, const CacheView& cache, int64_t t,
                  int64_t h, int64_t kv, int64_t slot) {
  double sum = 0.0;
  for (int64_t d = 0; d < q.shape[2]; ++d) {
    sum += Load(q, t, h, d) * Stored(cache.k, cache.k_scale, kv, slot, d);
  }
  return sum;
}

}  // namespace sinklora::kernels::reference

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_REFERENCE_H_
