// Products with one small extent, as LoRA's are: a few columns (x A^T), sums of
// a few terms (d B^T), or a few columns summed over many rows (gradients). One
// pass over the large operand, in its own layout; f32.
//
// An element of the result is summed in an order that follows from k alone, so
// its bits depend on its row of a, its column of b and k, and not on the tile
// it is computed in.
//
// Thread-safe: no state.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_SLIM_GEMM_H_
#define SINKLORA_KERNELS_MATMUL_SLIM_GEMM_H_

#include <cstdint>

namespace sinklora::kernels::cpu {

// Largest small extent: that of ranks in use.
inline constexpr int64_t kSlim = 64;

// out[m, n] = alpha * sum (+ out), strides between rows, unit stride in a row.
struct SlimTile {
  const float* a;
  int64_t a_row;
  const float* b;
  int64_t b_row;
  float* out;
  int64_t out_row;
  int64_t m, n, k;
  float alpha;
  bool accumulate;
};

// a is [m, k] and b is [n, k]: vectors of partial sums along k. Best for small
// n.
void DotGemm(const SlimTile& tile);

// a is [m, k] and b is [k, n]: one chain of multiply-adds an element. Best for
// small k.
void ChainGemm(const SlimTile& tile);

// a is [k, m] and b is [k, n], m small: sums[m][n], dense, of one chain of
// multiply-adds for each `chunk` of k, the chunks added in order. `out` and
// alpha of the tile are not used. `scratch` holds m x n floats and must not be
// `sums`.
void OuterGemm(const SlimTile& tile, int64_t chunk, float* sums,
               float* scratch);

// to[i] = alpha * from[i] (+ to[i]).
void StoreSums(const float* from, float alpha, bool accumulate, float* to,
               int64_t n);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_MATMUL_SLIM_GEMM_H_
