// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/amx_pack.h"

#include <algorithm>
#include <cstring>

namespace sinklora::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;

__mmask16 LanesLeft(int64_t n) {
  return static_cast<__mmask16>(
      n >= kLanes ? 0xffffu : (1u << std::max<int64_t>(n, 0)) - 1u);
}

// Halves of words that exist: bf16 elements [0, n) of 32.
__mmask32 ElementsLeft(int64_t n) {
  return n >= kTileElements
             ? 0xffffffffu
             : static_cast<__mmask32>((1u << std::max<int64_t>(n, 0)) - 1u);
}

// 32 elements as bf16, those of the mask.
SINKLORA_AMX_TARGET inline __m512i LoadElements(__mmask32 mask,
                                                const bf16_t* from) {
  return _mm512_maskz_loadu_epi16(mask, from);
}
SINKLORA_AMX_TARGET inline __m512i LoadElements(__mmask32 mask,
                                                const float* from) {
  const auto low = static_cast<__mmask16>(mask);
  const auto high = static_cast<__mmask16>(mask >> kLanes);
  return reinterpret_cast<__m512i>(
      _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, from + kLanes),
                          _mm512_maskz_loadu_ps(low, from)));
}

// Rows [row, row + 16) of x [rows][k] as tiles along k, zeros beyond either.
template <typename T>
SINKLORA_AMX_TARGET void PackTileRowsOf(const T* x, int64_t rows, int64_t k,
                                        int64_t row, char* tiles) {
  const int64_t held = std::clamp<int64_t>(rows - row, 0, kTileRows);
  const T* from = x + row * k;
  for (int64_t e = 0; e < k; e += kTileElements, tiles += kTileBytes) {
    const __mmask32 mask = ElementsLeft(k - e);
    for (int64_t i = 0; i < held; ++i) {
      _mm512_store_si512(tiles + i * kTileRowBytes,
                         LoadElements(mask, from + i * k + e));
    }
    std::memset(tiles + held * kTileRowBytes, 0,
                (kTileRows - held) * kTileRowBytes);
  }
}

// Columns [column, column + 16) of the transpose of x [columns][k].
template <typename T>
SINKLORA_AMX_TARGET void PackTransposedOf(const T* x, int64_t columns,
                                          int64_t k, int64_t column,
                                          char* tiles) {
  for (int64_t e = 0; e < k; e += kTileElements, tiles += kTileBytes) {
    const __mmask32 mask = ElementsLeft(k - e);
    __m512i block[16];
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) {
      const bool exists = column + i < columns;
      block[i] = LoadElements(exists ? mask : 0,
                              (exists ? x + (column + i) * k : x) + e);
    }
    Transpose16(block);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) {
      _mm512_store_si512(tiles + i * kTileRowBytes, block[i]);
    }
  }
}

template <typename T>
SINKLORA_AMX_TARGET void PackNarrowOf(const T* x, int64_t columns, int64_t k,
                                      uint32_t* words) {
  const __m512i lane =
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i at =
      _mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int>(columns)));
  for (int64_t e = 0; e < k; e += kTileElements) {
    uint32_t* to = words + e / 2 * columns;
    const __mmask32 mask = ElementsLeft(k - e);
    for (int64_t i = 0; i < columns; ++i) {
      _mm512_i32scatter_epi32(to + i, at, LoadElements(mask, x + i * k + e), 4);
    }
  }
}

}  // namespace

void PackTileRows(const bf16_t* x, int64_t rows, int64_t k, int64_t row,
                  char* tiles) {
  PackTileRowsOf(x, rows, k, row, tiles);
}

void PackTileRows(const float* x, int64_t rows, int64_t k, int64_t row,
                  char* tiles) {
  PackTileRowsOf(x, rows, k, row, tiles);
}

SINKLORA_AMX_TARGET void PackTileColumns(const bf16_t* x, int64_t columns,
                                         int64_t k, int64_t column,
                                         char* tiles) {
  const __mmask16 mask = LanesLeft(columns - column);
  const auto row = [&](int64_t e) SINKLORA_AMX_TARGET {
    return e < k ? _mm512_cvtepu16_epi32(
                       _mm256_maskz_loadu_epi16(mask, x + e * columns + column))
                 : _mm512_setzero_si512();
  };
  const int64_t padded = TilesOf(k) * kTileElements;
  for (int64_t e = 0; e < padded; e += 2, tiles += kTileRowBytes) {
    const __m512i pairs =
        _mm512_or_si512(row(e), _mm512_slli_epi32(row(e + 1), 16));
    _mm512_store_si512(tiles, pairs);
  }
}

void PackTransposedTileColumns(const bf16_t* x, int64_t columns, int64_t k,
                               int64_t column, char* tiles) {
  PackTransposedOf(x, columns, k, column, tiles);
}

void PackTransposedTileColumns(const float* x, int64_t columns, int64_t k,
                               int64_t column, char* tiles) {
  PackTransposedOf(x, columns, k, column, tiles);
}

void PackNarrowTileColumns(const bf16_t* x, int64_t columns, int64_t k,
                           uint32_t* words) {
  PackNarrowOf(x, columns, k, words);
}

void PackNarrowTileColumns(const float* x, int64_t columns, int64_t k,
                           uint32_t* words) {
  PackNarrowOf(x, columns, k, words);
}

}  // namespace sinklora::kernels::cpu
