// The candidates of the search for the scale of a block of 4-bit weights.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_QUANTIZED_MATMUL_INT4_SEARCH_H_
#define SINKLORA_KERNELS_QUANTIZED_MATMUL_INT4_SEARCH_H_

#include <array>

#include "kernels/quantized_matmul/quantized_matrix.h"

namespace sinklora::kernels {

// The largest weight of a block goes to an outer level times one of these:
// large ones clip, small ones waste levels.
inline constexpr std::array<float, 5> kInt4Factors = {1.0f, 0.93f, 0.86f, 1.07f,
                                                      1.14f};
// Either: the levels are not symmetric.
inline constexpr std::array<float, 2> kInt4OuterLevels = {-127.0f, 113.0f};
// Between neighbouring levels: nearest is a matter of being above these.
inline constexpr std::array<float, 15> kInt4Middles = [] {
  std::array<float, 15> out{};
  for (int i = 0; i < 15; ++i) {
    out[i] = 0.5f * static_cast<float>(kInt4Levels[i] + kInt4Levels[i + 1]);
  }
  return out;
}();

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_QUANTIZED_MATMUL_INT4_SEARCH_H_
