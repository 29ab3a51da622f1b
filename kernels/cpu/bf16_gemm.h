// Matrix products of small tiles with bf16 operands and f32 sums, by the
// processor's pairwise dot product (AVX512-BF16). The bf16 twin of
// micro_gemm-inl.h.
//
// Two numbers that follow each other along the summed dimension are one pair:
// the earlier in the low half of 32 bits. An output is one chain of dot
// products of pairs in ascending order, from zero or from what `out` held, so
// its bits depend on where pairs begin and are masked, but not on the tile it
// is computed in. Denormals count as zero.
//
// Thread-safe: no state. REQUIRES for all: the processor has AVX512-BF16
// (cpu_isa.h); the functions do not check. x86-64 only.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_BF16_GEMM_H_
#define SINKLORA_KERNELS_CPU_BF16_GEMM_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

using Bf16Pair = uint32_t;

// out[r][c] (+)= sum over pairs of a[r * a_row + p * a_step] . b[p * b_row +
// c]. Strides in pairs and floats; b and out have unit column stride.
struct Bf16GemmTile {
  const Bf16Pair* a;
  int64_t a_row, a_step;
  const Bf16Pair* b;
  int64_t b_row;
  float* out;
  int64_t out_row;
  bool accumulate;
};

// Sums over elements [begin, end) of the tile's summed dimension, begin even or
// odd: of a pair with one element outside, that half of `b` counts as zero
// whatever it holds (a.s must be finite). rows, cols >= 0, any.
void Bf16Gemm(const Bf16GemmTile& tile, int64_t begin, int64_t end,
              int64_t rows, int64_t cols);

// to[i] = bf16(from[i] * factor), to nearest even; NaN stays NaN.
void ToBf16Row(const float* from, float factor, bf16_t* to, int64_t n);

// to[i] = the pair (even[i] * factor, odd[i] * factor); either row may be null:
// zeros.
void ToBf16Pairs(const float* even, const float* odd, float factor,
                 Bf16Pair* to, int64_t n);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_BF16_GEMM_H_
