// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/pair_columns.h"

#include <algorithm>

#include "kernels/cpu/avx512.h"

namespace sinklora::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;

// to[i][j] = from[j][i] for 16 x 16 words, the first `rows` of `to`, lanes of
// the mask.
SINKLORA_AVX512_TARGET void TurnBlock(const void* from, int64_t from_stride,
                                      void* to, int64_t to_stride, int64_t rows,
                                      __mmask16 lanes) {
  const auto* words = static_cast<const uint32_t*>(from);
  auto* turned = static_cast<uint32_t*>(to);
  __m512i block[16];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kLanes; ++i) {
    block[i] = _mm512_loadu_si512(words + i * from_stride);
  }
  Transpose16(block);
#pragma GCC unroll 16
  for (int64_t i = 0; i < kLanes; ++i) {
    if (i < rows) {
      _mm512_mask_storeu_epi32(turned + i * to_stride, lanes, block[i]);
    }
  }
}

}  // namespace

void PairColumns(const float* rows, int64_t row_stride, int64_t count,
                 int64_t head_dim, int64_t pair_dim, float factor,
                 Bf16Pair* columns) {
  constexpr int64_t kPairs = kTile / 2;
  alignas(64) Bf16Pair lines[kPairs * kMaxHeadDim];
  for (int64_t j = 0; j < kPairs; ++j) {
    const int64_t r = 2 * j;
    const float* row = rows + r * row_stride;
    Bf16Pair* line = lines + j * pair_dim;
    ToBf16Pairs(r < count ? row : nullptr,
                r + 1 < count ? row + row_stride : nullptr, factor, line,
                head_dim);
    std::fill(line + head_dim, line + pair_dim, 0);
  }
  for (int64_t i = 0; i < pair_dim; i += kLanes) {
    for (int64_t j = 0; j < kPairs; j += kLanes) {
      TurnBlock(lines + j * pair_dim + i, pair_dim, columns + i * kPairs + j,
                kPairs, kLanes, 0xffff);
    }
  }
}

void StoreColumns(const float* columns, int64_t count, int64_t head_dim,
                  float* to, int64_t to_stride) {
  for (int64_t r = 0; r < count; r += kLanes) {
    for (int64_t i = 0; i < head_dim; i += kLanes) {
      const auto lanes =
          static_cast<__mmask16>((1u << std::min(kLanes, head_dim - i)) - 1u);
      TurnBlock(columns + i * kTile + r, kTile, to + r * to_stride + i,
                to_stride, count - r, lanes);
    }
  }
}

}  // namespace sinklora::kernels::cpu
