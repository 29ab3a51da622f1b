// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/bf16_gemm.h"

#include <algorithm>

#include "kernels/cpu/avx512.h"

namespace sinklora::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;
constexpr int kBlockRows = 6;
constexpr int kBlockVectors = 4;
constexpr uint32_t kBothHalves = 0xffffffff;
constexpr uint32_t kOddHalf = 0xffff0000;
constexpr uint32_t kEvenHalf = 0x0000ffff;

SINKLORA_AVX512_BF16_TARGET inline __m512bh AsBf16(__m512i bits) {
  return reinterpret_cast<__m512bh>(bits);
}

// kRows x kVectors vectors of outputs, all in registers (for which GCC 12 must
// be told to unroll early: the loops were three times as slow without), over
// `pairs` of the tile; `tail` says which lanes of the last vector there are,
// `halves` which halves of b's pairs count when kMasked.
template <int kRows, int kVectors, bool kMasked>
SINKLORA_AVX512_BF16_TARGET void Block(const Bf16GemmTile& t, int64_t pairs,
                                       uint32_t halves, __mmask16 tail) {
  __m512 sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const __mmask16 lanes = v + 1 < kVectors ? 0xffff : tail;
      const float* out = t.out + r * t.out_row + v * kLanes;
      sums[r][v] = t.accumulate ? _mm512_maskz_loadu_ps(lanes, out)
                                : _mm512_setzero_ps();
    }
  }
  const __m512i kept = _mm512_set1_epi32(static_cast<int>(halves));
  const Bf16Pair* a = t.a;
  const Bf16Pair* b = t.b;
  for (int64_t p = 0; p < pairs; ++p, a += t.a_step, b += t.b_row) {
    __m512i row[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      row[v] = v + 1 < kVectors
                   ? _mm512_loadu_si512(b + v * kLanes)
                   : _mm512_maskz_loadu_epi32(tail, b + v * kLanes);
      if (kMasked) row[v] = _mm512_and_si512(row[v], kept);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(a[r * t.a_row]));
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], AsBf16(x), AsBf16(row[v]));
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const __mmask16 lanes = v + 1 < kVectors ? 0xffff : tail;
      _mm512_mask_storeu_ps(t.out + r * t.out_row + v * kLanes, lanes,
                            sums[r][v]);
    }
  }
}

template <int kRows, int kVectors>
void Pairs(const Bf16GemmTile& t, int64_t pairs, uint32_t halves,
           __mmask16 tail) {
  if (halves == kBothHalves) {
    Block<kRows, kVectors, false>(t, pairs, halves, tail);
  } else {
    Block<kRows, kVectors, true>(t, pairs, halves, tail);
  }
}

template <int kRows>
void Rows(Bf16GemmTile t, int64_t pairs, uint32_t halves, int64_t cols) {
  for (; cols > 0; t.b += kBlockVectors * kLanes,
                   t.out += kBlockVectors * kLanes,
                   cols -= kBlockVectors * kLanes) {
    const int64_t vectors =
        std::min<int64_t>(kBlockVectors, (cols + kLanes - 1) / kLanes);
    const int64_t in_last =
        std::min(cols, vectors * kLanes) - (vectors - 1) * kLanes;
    const auto tail = static_cast<__mmask16>((1u << in_last) - 1u);
    switch (vectors) {
      case 4:
        Pairs<kRows, 4>(t, pairs, halves, tail);
        break;
      case 3:
        Pairs<kRows, 3>(t, pairs, halves, tail);
        break;
      case 2:
        Pairs<kRows, 2>(t, pairs, halves, tail);
        break;
      default:
        Pairs<kRows, 1>(t, pairs, halves, tail);
    }
  }
}

// Pairs [first, first + pairs) of all rows, `halves` of b.
void AddPairs(Bf16GemmTile t, int64_t first, int64_t pairs, uint32_t halves,
              int64_t rows, int64_t cols) {
  t.a += first * t.a_step;
  t.b += first * t.b_row;
  const auto advance = [&](int done) {
    t.a += done * t.a_row;
    t.out += done * t.out_row;
    rows -= done;
  };
  while (rows >= kBlockRows) {
    Rows<kBlockRows>(t, pairs, halves, cols);
    advance(kBlockRows);
  }
  if (rows >= 4) {
    Rows<4>(t, pairs, halves, cols);
    advance(4);
  }
  if (rows >= 2) {
    Rows<2>(t, pairs, halves, cols);
    advance(2);
  }
  if (rows >= 1) Rows<1>(t, pairs, halves, cols);
}

SINKLORA_AVX512_BF16_TARGET inline __m256i Demote(__m512 v) {
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
}

SINKLORA_AVX512_BF16_TARGET inline __m512i LoadHalf(const float* row,
                                                    __m512 factor,
                                                    __mmask16 lanes) {
  if (row == nullptr) return _mm512_setzero_si512();
  const __m512 v = _mm512_maskz_loadu_ps(lanes, row);
  return _mm512_cvtepu16_epi32(Demote(_mm512_mul_ps(v, factor)));
}

inline __mmask16 LanesLeft(int64_t n) {
  return n >= kLanes ? static_cast<__mmask16>(0xffff)
                     : static_cast<__mmask16>((1u << n) - 1u);
}

}  // namespace

void Bf16Gemm(const Bf16GemmTile& tile, int64_t begin, int64_t end,
              int64_t rows, int64_t cols) {
  Bf16GemmTile t = tile;
  const auto add = [&](int64_t first, int64_t pairs, uint32_t halves) {
    AddPairs(t, first, pairs, halves, rows, cols);
    t.accumulate = true;
  };
  if (begin < end && begin % 2 != 0) {
    add(begin / 2, 1, kOddHalf);
    ++begin;
  }
  const int64_t whole = std::max<int64_t>(0, end / 2 - begin / 2);
  if (whole > 0 || !t.accumulate) add(begin / 2, whole, kBothHalves);
  if (begin < end && end % 2 != 0) add(end / 2, 1, kEvenHalf);
}

SINKLORA_AVX512_BF16_TARGET void ToBf16Row(const float* from, float factor,
                                           bf16_t* to, int64_t n) {
  const __m512 f = _mm512_set1_ps(factor);
  for (int64_t i = 0; i < n; i += kLanes) {
    const __mmask16 lanes = LanesLeft(n - i);
    const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, from + i), f);
    _mm256_mask_storeu_epi16(to + i, lanes, Demote(v));
  }
}

SINKLORA_AVX512_BF16_TARGET void ToBf16Pairs(const float* even,
                                             const float* odd, float factor,
                                             Bf16Pair* to, int64_t n) {
  const __m512 f = _mm512_set1_ps(factor);
  for (int64_t i = 0; i < n; i += kLanes) {
    const __mmask16 lanes = LanesLeft(n - i);
    const __m512i low = LoadHalf(even ? even + i : nullptr, f, lanes);
    const __m512i high = LoadHalf(odd ? odd + i : nullptr, f, lanes);
    _mm512_mask_storeu_epi32(to + i, lanes,
                             _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
}

}  // namespace sinklora::kernels::cpu
