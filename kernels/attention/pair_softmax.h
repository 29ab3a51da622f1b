// The softmax of tiled attention with bf16 products (bf16_gemm.h), forward and
// backward: rows of f32 scores become the bf16 operands of the product that
// follows, in one pass over them. Exponentials are of base 2, within 2 ulp;
// below 2^-126 they are 0, and NaN stays NaN.
//
// Thread-safe: no state but the caller's. REQUIRES for all: the processor has
// AVX512-BF16 (cpu_isa.h); the functions do not check. x86-64 only.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_PAIR_SOFTMAX_H_
#define SINKLORA_KERNELS_ATTENTION_PAIR_SOFTMAX_H_

#include <cstdint>
#include <limits>

#include "kernels/attention/attention_plan.h"
#include "kernels/cpu/bf16_gemm.h"
#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

// Running softmax of one query over the tiles seen so far.
struct alignas(64) PairSoftmax {
  float sums[16] = {};  // of 2^(score * factor - top), by column modulo 16
  float top = -std::numeric_limits<float>::infinity();

  float Sum() const;
  // Of the natural exponentials, and the scores times `factor` / log2(e).
  float LogSumExp() const;
};

// Columns [begin, end) of a row, multiples of 16 in [0, kTile], of which those
// in [first, limit) are seen.
struct RowColumns {
  int64_t begin, end;
  int64_t first, limit;
};

// weights[c] = 2^(scores[c] * factor - top), 0 where not seen, for the columns;
// moves `state` on. Returns the factor for what was accumulated under the old
// top. `factor` >= 0.
float PairSoftmaxRow(const float* scores, const RowColumns& columns,
                     float factor, bf16_t* weights, PairSoftmax& state);

// Where the rows of a visit go in backward; null: not wanted.
struct PairGradients {
  Bf16Pair* dscores;           // [kTile][kTile / 2]
  Bf16Pair* probability_rows;  // [kTile / 2][kTile], rows 2i and 2i + 1
  Bf16Pair* dscore_rows;       // the same; wanted with probability_rows
};

// For the rows r and the whole vectors of columns of a visit: probabilities
// 2^(scores * factor - lse[r] * log2(e)) and their products with dprobabilities
// - delta[r], 0 where r does not see the column. scores, dprobabilities:
// [kTile][kTile].
void PairGradientRows(const Visit& visit, const float* scores,
                      const float* dprobabilities, const float* lse,
                      const float* delta, float factor,
                      const PairGradients& out);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_ATTENTION_PAIR_SOFTMAX_H_
