// SPDX-License-Identifier: Apache-2.0
#include "kernels/tensor.h"

#include <bit>

namespace sinklora::kernels {

bf16_t ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  // Rounding could carry a NaN payload into Inf, so NaNs are cut and quieted.
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  if (is_nan) return static_cast<bf16_t>((bits >> 16) | 0x0040u);
  const uint32_t round_to_even = 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<bf16_t>((bits + round_to_even) >> 16);
}

float FromBf16(bf16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

}  // namespace sinklora::kernels
