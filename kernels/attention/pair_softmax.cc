// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/pair_softmax.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/avx512.h"

namespace sinklora::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;
constexpr float kMinusInf = -std::numeric_limits<float>::infinity();
constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;

// 2^x; below 2^-126 it is 0, NaN stays NaN. The polynomial is the best of its
// degree on [0, 1), off by 2^-23.7 of the result at most.
SINKLORA_AVX512_BF16_TARGET inline __m512 Exp2(__m512 x) {
  constexpr int kDown = _MM_FROUND_TO_NEG_INF;
  const __mmask16 normal =
      _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  const __m512 f = _mm512_reduce_ps(x, kDown);  // x - floor(x)
  __m512 p = _mm512_set1_ps(1.8775766079e-3f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(8.9893403429e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5826317749e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4015361719e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9315307317e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.9999992506e-1f));
  return _mm512_maskz_scalef_ps(normal, p, x);
}

// Lanes of columns [c, c + 16) in [first, limit).
inline __mmask16 Seen(int64_t c, int64_t first, int64_t limit) {
  const auto below = [c](int64_t column) {
    return (1u << std::clamp<int64_t>(column - c, 0, kLanes)) - 1u;
  };
  return static_cast<__mmask16>(below(limit) & ~below(first));
}

SINKLORA_AVX512_BF16_TARGET inline __m512i Demote2(__m512 high, __m512 low) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

template <int kVectors>
SINKLORA_AVX512_BF16_TARGET float SoftmaxRow(const float* scores,
                                             const RowColumns& columns,
                                             float factor, bf16_t* weights,
                                             PairSoftmax& state) {
  const bool all =
      columns.begin == columns.first && columns.end == columns.limit;
  const __m512 unseen = _mm512_set1_ps(kMinusInf);
  __m512 x[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const int64_t c = columns.begin + v * kLanes;
    x[v] = all ? _mm512_loadu_ps(scores + c)
               : _mm512_mask_loadu_ps(
                     unseen, Seen(c, columns.first, columns.limit), scores + c);
  }
  __m512 largest = x[0];
#pragma GCC unroll 4
  for (int v = 1; v < kVectors; ++v) largest = _mm512_max_ps(largest, x[v]);

  const __m512 scale = _mm512_set1_ps(factor);
  largest = _mm512_mul_ps(largest, scale);
  __m512 sum = _mm512_load_ps(state.sums);
  float correction = 1.0f;
  // Rarely after the first tiles.
  if (_mm512_cmp_ps_mask(largest, _mm512_set1_ps(state.top), _CMP_NLE_UQ) !=
      0) {
    const float top = std::max(_mm512_reduce_max_ps(largest), state.top);
    const __m512 c = Exp2(_mm512_set1_ps(state.top - top));
    correction = _mm512_cvtss_f32(c);
    sum = _mm512_mul_ps(sum, c);
    state.top = top;
  }
  const bool nothing = state.top == kMinusInf;  // seen that is not -inf
  const __m512 top = _mm512_set1_ps(nothing ? 0.0f : state.top);
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    x[v] = Exp2(_mm512_fmsub_ps(x[v], scale, top));
    sum = _mm512_add_ps(sum, x[v]);
  }
  _mm512_store_ps(state.sums, sum);
  bf16_t* to = weights + columns.begin;
#pragma GCC unroll 2
  for (int v = 0; v + 1 < kVectors; v += 2) {
    _mm512_storeu_si512(to + v * kLanes, Demote2(x[v + 1], x[v]));
  }
  if constexpr (kVectors % 2 != 0) {
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(to + (kVectors - 1) * kLanes),
        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x[kVectors - 1])));
  }
  return correction;
}

// One row of a pair in backward. Of a row that is not there every lane is zero.
struct GradRow {
  const float* scores;
  const float* dprobabilities;
  float lse2, delta;
  int64_t first, limit;
};

GradRow RowOf(const Visit& visit, int64_t row, const float* scores,
              const float* dprobabilities, const float* lse,
              const float* delta) {
  const bool there = row >= visit.first_row && row < visit.end_row;
  if (!there) return {scores, dprobabilities, 0.0f, 0.0f, 0, 0};
  return {scores + row * kTile, dprobabilities + row * kTile,
          lse[row] * kLog2E,    delta[row],
          visit.Begin(row),     visit.Limit(row)};
}

struct Grads {
  __m512 probability, dscore;
};
SINKLORA_AVX512_BF16_TARGET inline Grads GradsAt(const GradRow& row, int64_t c,
                                                 __m512 scale) {
  const __mmask16 seen = Seen(c, row.first, row.limit);
  const __m512 x = _mm512_fmsub_ps(_mm512_maskz_loadu_ps(seen, row.scores + c),
                                   scale, _mm512_set1_ps(row.lse2));
  const __m512 slope =
      _mm512_sub_ps(_mm512_maskz_loadu_ps(seen, row.dprobabilities + c),
                    _mm512_set1_ps(row.delta));
  const __m512 probability = _mm512_maskz_mov_ps(seen, Exp2(x));
  return {probability, _mm512_maskz_mul_ps(seen, probability, slope)};
}

// Words of the low and of the high half in turn.
SINKLORA_AVX512_BF16_TARGET inline __m512i Interleave(__m512i halves) {
  alignas(64) static constexpr uint16_t kOrder[32] = {
      0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), halves);
}

}  // namespace

float PairSoftmax::Sum() const {
  float half[8];
  for (int i = 0; i < 8; ++i) half[i] = sums[i] + sums[i + 8];
  return ((half[0] + half[4]) + (half[2] + half[6])) +
         ((half[1] + half[5]) + (half[3] + half[7]));
}

float PairSoftmax::LogSumExp() const { return top * kLn2 + std::log(Sum()); }

float PairSoftmaxRow(const float* scores, const RowColumns& columns,
                     float factor, bf16_t* weights, PairSoftmax& state) {
  switch ((columns.end - columns.begin) / kLanes) {
    case 4:
      return SoftmaxRow<4>(scores, columns, factor, weights, state);
    case 3:
      return SoftmaxRow<3>(scores, columns, factor, weights, state);
    case 2:
      return SoftmaxRow<2>(scores, columns, factor, weights, state);
    default:
      return SoftmaxRow<1>(scores, columns, factor, weights, state);
  }
}

SINKLORA_AVX512_BF16_TARGET void PairGradientRows(
    const Visit& visit, const float* scores, const float* dprobabilities,
    const float* lse, const float* delta, float factor,
    const PairGradients& out) {
  const __m512 scale = _mm512_set1_ps(factor);
  const int64_t begin = visit.begin / kLanes * kLanes;
  for (int64_t r = visit.first_row / 2 * 2; r < visit.end_row; r += 2) {
    const GradRow even = RowOf(visit, r, scores, dprobabilities, lse, delta);
    const GradRow odd = RowOf(visit, r + 1, scores, dprobabilities, lse, delta);
    for (int64_t c = begin; c < visit.end; c += kLanes) {
      const Grads a = GradsAt(even, c, scale);
      const Grads b = GradsAt(odd, c, scale);
      const __m512i dscores = Demote2(b.dscore, a.dscore);
      if (out.dscores != nullptr) {
        // A row that is not there has room of its own, too.
        Bf16Pair* to = out.dscores + r * (kTile / 2) + c / 2;
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                            _mm512_castsi512_si256(dscores));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + kTile / 2),
                            _mm512_extracti64x4_epi64(dscores, 1));
      }
      if (out.probability_rows == nullptr) continue;
      const int64_t at = r / 2 * kTile + c;
      _mm512_storeu_si512(out.probability_rows + at,
                          Interleave(Demote2(b.probability, a.probability)));
      _mm512_storeu_si512(out.dscore_rows + at, Interleave(dscores));
    }
  }
}

}  // namespace sinklora::kernels::cpu
