// A row of keys or values as 8-bit codes with one scale; see cache_attention.h.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_INT8_ROW_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_INT8_ROW_H_

#include <cmath>
#include <cstdint>
#include <limits>

namespace sinklora::kernels {

// Fills codes[0 .. n) and returns the scale.
inline float EncodeInt8Row(const float* x, int64_t n, int8_t* codes) {
  float top = 0.0f;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    const float magnitude = std::fabs(x[i]);
    finite &= magnitude <= std::numeric_limits<float>::max();  // not for NaN
    top = magnitude > top ? magnitude : top;
  }
  float scale = top / 127.0f;
  // A scale that is not normal has too few bits.
  const bool usable = finite && scale >= std::numeric_limits<float>::min();
  if (!usable) scale = 0.0f;
  if (!finite) scale = std::numeric_limits<float>::quiet_NaN();
  for (int64_t i = 0; i < n; ++i) {
    codes[i] =
        usable ? static_cast<int8_t>(std::nearbyint(x[i] / scale)) : int8_t{0};
  }
  return scale;
}

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_INT8_ROW_H_
