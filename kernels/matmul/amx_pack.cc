// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/amx_pack.h"

#include <algorithm>
#include <cstring>

namespace sinklora::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;

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

SINKLORA_AMX_TARGET void PackTwoTileColumns(const bf16_t* x, int64_t columns,
                                            int64_t k, int64_t column,
                                            char* tiles) {
  // Rows are far apart: of each comes a line, asked for so many rows ahead.
  constexpr int64_t kRowsAhead = 24;
  // Elements of the first 16 columns of two rows in turn; the others are 16 on.
  alignas(64) static constexpr uint16_t kInTurn[32] = {
      0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
      8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i first = _mm512_load_si512(kInTurn);
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(kLanes));
  const __mmask32 mask = ElementsLeft(columns - column);
  const bf16_t* from = x + column;
  char* tiles2 = tiles + TilesOf(k) * kTileBytes;
  const int64_t padded = TilesOf(k) * kTileElements;
  for (int64_t e = 0; e < padded; e += 2) {
    const bf16_t* row = from + e * columns;
    _mm_prefetch(row + kRowsAhead * columns, _MM_HINT_T0);
    _mm_prefetch(row + (kRowsAhead + 1) * columns, _MM_HINT_T0);
    const __m512i even =
        _mm512_maskz_loadu_epi16(e < k ? mask : 0, e < k ? row : from);
    const __m512i odd = _mm512_maskz_loadu_epi16(
        e + 1 < k ? mask : 0, e + 1 < k ? row + columns : from);
    const int64_t at = e / 2 * kTileRowBytes;
    _mm512_store_si512(tiles + at, _mm512_permutex2var_epi16(even, first, odd));
    _mm512_store_si512(tiles2 + at,
                       _mm512_permutex2var_epi16(even, second, odd));
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
