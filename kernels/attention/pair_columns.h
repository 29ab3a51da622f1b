// What backward attention in AMX tiles keeps turned, so that its visits need
// not turn anything: the columns of query tiles as left operands, and sums of
// dk and dv with a row for each element of a head.
//
// Thread-safe: no state but the caller's. REQUIRES for all: the processor has
// AVX512-BF16 (cpu_isa.h); the functions do not check. x86-64 only.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_PAIR_COLUMNS_H_
#define SINKLORA_KERNELS_ATTENTION_PAIR_COLUMNS_H_

#include <cstdint>

#include "kernels/attention/attention_plan.h"
#include "kernels/cpu/bf16_gemm.h"

namespace sinklora::kernels::cpu {

// Floats of a key tile's turned dk and dv, [2][pair_dim][kTile].
inline int64_t TurnedFloats(int64_t pair_dim) { return 2 * pair_dim * kTile; }

// columns[i][j] = the pair (rows[2j][i], rows[2j + 1][i]) * factor, [pair_dim]
// [kTile / 2]; zero beyond `count` rows and beyond head_dim. pair_dim: a
// multiple of 16, at most kMaxHeadDim.
void PairColumns(const float* rows, int64_t row_stride, int64_t count,
                 int64_t head_dim, int64_t pair_dim, float factor,
                 Bf16Pair* columns);

// to[r][i] = columns[i][r], r < count <= kTile, i < head_dim. `columns`:
// [head_dim up to a multiple of 16][kTile].
void StoreColumns(const float* columns, int64_t count, int64_t head_dim,
                  float* to, int64_t to_stride);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_ATTENTION_PAIR_COLUMNS_H_
