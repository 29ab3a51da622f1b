// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/few_rows_gemm.h"

#include <algorithm>

#include "kernels/cpu/avx512.h"
#include "kernels/cpu/cpu_isa.h"

namespace sinklora::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;
// How far ahead each row is asked for where memory is read by rows.
constexpr int64_t kWordsAhead = 6 * kLanes;

// How b is asked for ahead of its use, which the processors that we know take
// differently: AMD's bring a kilobyte after the other fastest, Intel's (those
// with AMX) some lines of each of the rows at a time.
enum class Ahead { kInOrder, kByRow };

// Words are floats, or pairs of bf16 that are multiplied as one.
struct Words {
  const uint32_t* a;  // [rows][words]
  const uint32_t* b;  // [n][words]
  int64_t words;
  int64_t chunk;         // words
  const uint32_t* next;  // the 16 rows of b that follow, or else these
};

// sum + x * y, or in assembly, so that processors without it can run the rest,
// the dot products of pairs.
template <bool kPairs>
SINKLORA_AVX512_TARGET inline __attribute__((always_inline)) __m512 Add(
    __m512 sum, __m512i x, __m512i y) {
  if (!kPairs) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(y), sum);
  }
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
  return sum;
}

// Where memory is to be asked for row i of the block at `word`: + i * step.
template <Ahead kAhead>
const uint32_t* AskedAhead(const Words& w, const uint32_t* rows, int64_t word) {
  if constexpr (kAhead == Ahead::kInOrder) return w.next + word * kLanes;
  const int64_t at = word + kWordsAhead;
  return at < w.words ? rows + at : w.next + at - w.words;
}

// 16 words of the 16 rows from `word` on, the last ones zero beyond `count`,
// transposed.
template <Ahead kAhead>
SINKLORA_AVX512_TARGET inline __attribute__((always_inline)) void LoadBlock(
    const Words& w, const uint32_t* const (&rows)[16], int64_t word,
    int64_t count, __m512i (&block)[16]) {
  const auto mask = static_cast<__mmask16>((1u << count) - 1u);
  const uint32_t* ahead = AskedAhead<kAhead>(w, rows[0], word);
  const int64_t step = kAhead == Ahead::kInOrder ? kLanes : w.words;
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    block[i] = _mm512_maskz_loadu_epi32(mask, rows[i] + word);
    _mm_prefetch(ahead + i * step,
                 kAhead == Ahead::kInOrder ? _MM_HINT_T1 : _MM_HINT_T0);
  }
  Transpose16(block);
}

// Outputs of kRows rows of a and the 16 rows of b.
template <int kRows, bool kPairs, Ahead kAhead>
SINKLORA_AVX512_TARGET void Columns(const Words& w,
                                    const uint32_t* const (&rows)[16],
                                    __m512 (&totals)[kRows]) {
  for (int64_t begin = 0; begin < w.words; begin += w.chunk) {
    const int64_t end = std::min(w.words, begin + w.chunk);
    const int64_t whole = begin + (end - begin) / kLanes * kLanes;
    __m512 sums[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_ps();
    const uint32_t* a = w.a + begin;
    for (int64_t word = begin; word < whole; word += kLanes, a += kLanes) {
      __m512i block[16];
      LoadBlock<kAhead>(w, rows, word, kLanes, block);
#pragma GCC unroll 16
      for (int j = 0; j < 16; ++j) {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const auto x = static_cast<int>(a[r * w.words + j]);
          sums[r] = Add<kPairs>(sums[r], _mm512_set1_epi32(x), block[j]);
        }
      }
    }
    if (whole < end) {
      __m512i block[16];
      LoadBlock<kAhead>(w, rows, whole, end - whole, block);
      for (int64_t j = 0; j < end - whole; ++j) {
        for (int r = 0; r < kRows; ++r) {
          const auto x = static_cast<int>(a[r * w.words + j]);
          sums[r] = Add<kPairs>(sums[r], _mm512_set1_epi32(x), block[j]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      totals[r] = begin == 0 ? sums[r] : _mm512_add_ps(totals[r], sums[r]);
    }
  }
}

template <int kRows>
SINKLORA_AVX512_TARGET void StoreColumns(const GemmShape& s, int64_t column,
                                         const __m512 (&totals)[kRows],
                                         float* out) {
  const int64_t count = std::min(kLanes, s.n - column);
  const auto mask = static_cast<__mmask16>((1u << count) - 1u);
  for (int r = 0; r < kRows; ++r) {
    float* to = out + r * s.n + column;
    __m512 y = totals[r];
    if (s.alpha != 1.0f) y = _mm512_mul_ps(y, _mm512_set1_ps(s.alpha));
    if (s.accumulate) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, to));
    _mm512_mask_storeu_ps(to, mask, y);
  }
}

template <int kRows, Ahead kAhead>
void Multiply(const GemmShape& s, Words w, float* out) {
  for (int64_t column = 0; column < s.n; column += kLanes) {
    if (column + kLanes < s.n) w.next = w.b + (column + kLanes) * w.words;
    // The last row again for those beyond it, whose results are not stored.
    const uint32_t* rows[16];
    for (int64_t i = 0; i < kLanes; ++i) {
      rows[i] = w.b + std::min(column + i, s.n - 1) * w.words;
    }
    __m512 totals[kRows];
    if (s.dtype == DType::kBF16) {
      Columns<kRows, true, kAhead>(w, rows, totals);
    } else {
      Columns<kRows, false, kAhead>(w, rows, totals);
    }
    StoreColumns<kRows>(s, column, totals, out);
  }
}

template <Ahead kAhead>
constexpr void (*kMultiply[])(const GemmShape&, Words, float*) = {
    Multiply<1, kAhead>, Multiply<2, kAhead>, Multiply<3, kAhead>,
    Multiply<4, kAhead>, Multiply<5, kAhead>, Multiply<6, kAhead>,
    Multiply<7, kAhead>, Multiply<8, kAhead>};

}  // namespace

bool IsFewRows(const GemmShape& shape) {
  return shape.m <= kFewRows && shape.transpose_b &&
         shape.out_dtype == DType::kF32 &&
         (shape.alpha == 1.0f || !shape.accumulate) &&
         (shape.dtype == DType::kF32 || shape.k % 2 == 0);
}

void FewRowsGemm(const GemmShape& shape, int64_t chunk, const void* a,
                 const void* b, float* out) {
  const int64_t elements = shape.dtype == DType::kBF16 ? 2 : 1;
  const Words w{static_cast<const uint32_t*>(a),
                static_cast<const uint32_t*>(b), shape.k / elements,
                std::max<int64_t>(1, chunk / elements),
                static_cast<const uint32_t*>(b)};
  if (ActiveCpuIsa() >= CpuIsa::kAmx) {
    kMultiply<Ahead::kByRow>[shape.m - 1](shape, w, out);
  } else {
    kMultiply<Ahead::kInOrder>[shape.m - 1](shape, w, out);
  }
}

}  // namespace sinklora::kernels::cpu
