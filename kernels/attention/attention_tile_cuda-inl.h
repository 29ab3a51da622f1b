// Tiles of bf16 in shared memory and products of a warp with them.
//
// A row of a tile has kRowPadding elements more than D, an odd number of
// 16-byte units: the eight rows that ldmatrix reads at once lie in different
// banks.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_TILE_CUDA_INL_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_TILE_CUDA_INL_H_

#include <cstdint>

#include "kernels/cuda/device.h"

namespace sinklora::kernels::cuda {

inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kLn2 = 0.693147180559945309f;
inline constexpr int kTileThreads = 128;  // four warps
inline constexpr int kTileWarps = kTileThreads / kWarpThreads;
inline constexpr int kRowPadding = 8;

// Elements from one row to the next. REQUIRES: D a multiple of 16.
template <int D>
inline constexpr int kRowStride = D + kRowPadding;
static_assert(kRowStride<64> / 8 % 2 == 1 && kRowStride<80> / 8 % 2 == 1);

// Starts copies of rows [0, kRows) of `from` [.., D], of which those from
// `valid` on become zeros. A thread copies one column of 16 bytes.
template <int D, int kRows>
SINKLORA_DEVICE void StartTile(bf16_t* tile, const bf16_t* from, int valid) {
  constexpr int kUnits = D / 8;
  constexpr int kRowsAtOnce = kTileThreads / kUnits;
  const int row = static_cast<int>(threadIdx.x) / kUnits;
  const int column = static_cast<int>(threadIdx.x) % kUnits * 8;
  if (kTileThreads % kUnits != 0 && row >= kRowsAtOnce) return;
  bf16_t* to = tile + row * kRowStride<D> + column;
  from += row * D + column;
  SINKLORA_UNROLL
  for (int first = 0; first < kRows; first += kRowsAtOnce) {
    if (kRows % kRowsAtOnce != 0 && first + row >= kRows) break;
    CpAsync16(to + first * kRowStride<D>, from + first * D,
              first + row < valid ? 16 : 0);
  }
}

// Shared memory of a block: kTiles tiles of kHeld rows that stay, and two
// stages of pairs of tiles of kStream rows.
template <int D, int kTiles, int kHeld, int kStream>
struct StreamShared {
  static constexpr int kHeldElements = kHeld * kRowStride<D>;
  static constexpr int kStreamElements = kStream * kRowStride<D>;
  static constexpr int kBytes =
      (kTiles * kHeldElements + 4 * kStreamElements) * int{sizeof(bf16_t)};
  bf16_t* base = DynamicShared<bf16_t>();

  SINKLORA_DEVICE bf16_t* Held(int i) const { return base + i * kHeldElements; }
  SINKLORA_DEVICE bf16_t* Stream(int stage, int i) const {
    return base + kTiles * kHeldElements + (2 * stage + i) * kStreamElements;
  }
  SINKLORA_DEVICE void StartStream(int stage, const bf16_t* first,
                                   const bf16_t* second, int rows) const {
    StartTile<D, kStream>(Stream(stage, 0), first, rows);
    StartTile<D, kStream>(Stream(stage, 1), second, rows);
  }
};

// acc[m] += rows [16 m, 16 m + 16) of `a` times the transpose of the 8 kN rows
// of `b`: sums over D. Both point to a first row.
template <int D, int kM, int kN>
SINKLORA_DEVICE void MultiplyRows(float acc[kM][kN][4], const bf16_t* a,
                                  const bf16_t* b) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const bf16_t* a_row = a + lane % 16 * kRowStride<D> + lane / 16 * 8;
  const bf16_t* b_row =
      b + (lane / 16 * 8 + lane % 8) * kRowStride<D> + lane / 8 % 2 * 8;
  SINKLORA_UNROLL
  for (int k = 0; k < D; k += 16) {
    uint32_t a_pairs[kM][4];
    SINKLORA_UNROLL
    for (int m = 0; m < kM; ++m) {
      LdMatrixX4(a_pairs[m], a_row + m * 16 * kRowStride<D> + k);
    }
    SINKLORA_UNROLL
    for (int n = 0; n < kN; n += 2) {
      uint32_t b_pairs[4];
      LdMatrixX4(b_pairs, b_row + n * 8 * kRowStride<D> + k);
      SINKLORA_UNROLL
      for (int m = 0; m < kM; ++m) {
        MmaBf16_16x8x16(acc[m][n], a_pairs[m], b_pairs);
        MmaBf16_16x8x16(acc[m][n + 1], a_pairs[m], b_pairs + 2);
      }
    }
  }
}

// acc[m] += p[m], rounded to bf16, times the 8 kN rows of `b` [.., D].
template <int D, int kM, int kN>
SINKLORA_DEVICE void MultiplyWeights(float acc[kM][D / 8][4],
                                     const float p[kM][kN][4],
                                     const bf16_t* b) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const bf16_t* b_row = b + lane % 16 * kRowStride<D> + lane / 16 * 8;
  SINKLORA_UNROLL
  for (int k = 0; k < kN; k += 2) {
    // What a product leaves in a lane's registers is what the next one takes.
    uint32_t p_pairs[kM][4];
    SINKLORA_UNROLL
    for (int m = 0; m < kM; ++m) {
      p_pairs[m][0] = PackBf16(p[m][k][0], p[m][k][1]);
      p_pairs[m][1] = PackBf16(p[m][k][2], p[m][k][3]);
      p_pairs[m][2] = PackBf16(p[m][k + 1][0], p[m][k + 1][1]);
      p_pairs[m][3] = PackBf16(p[m][k + 1][2], p[m][k + 1][3]);
    }
    SINKLORA_UNROLL
    for (int n = 0; n < D / 8; n += 2) {
      uint32_t b_pairs[4];
      LdMatrixX4Trans(b_pairs, b_row + k * 8 * kRowStride<D> + n * 8);
      SINKLORA_UNROLL
      for (int m = 0; m < kM; ++m) {
        MmaBf16_16x8x16(acc[m][n], p_pairs[m], b_pairs);
        MmaBf16_16x8x16(acc[m][n + 1], p_pairs[m], b_pairs + 2);
      }
    }
  }
}

template <int kM, int kN>
SINKLORA_DEVICE void SetZero(float acc[kM][kN][4]) {
  SINKLORA_UNROLL
  for (int m = 0; m < kM; ++m) {
    SINKLORA_UNROLL
    for (int n = 0; n < kN; ++n) {
      SINKLORA_UNROLL
      for (int i = 0; i < 4; ++i) acc[m][n][i] = 0.0f;
    }
  }
}

// [tokens, heads, head_dim] f32 with free strides.
struct TokenRows {
  float* data;
  int64_t token, head;  // elements
  bool pairs;           // pairs of elements are 8-byte aligned
  SINKLORA_DEVICE float* Row(int64_t t, int64_t h) const {
    return data + t * token + h * head;
  }
};
struct ConstTokenRows {
  const float* data;
  int64_t token, head;
  bool units;  // four elements are 16-byte aligned
  SINKLORA_DEVICE const float* Row(int64_t t, int64_t h) const {
    return data + t * token + h * head;
  }
};

// Columns [0, head_dim) of one row of a warp's sums, times `factor`.
template <int D>
SINKLORA_DEVICE void StoreRow(const float acc[D / 8][4], int half, float factor,
                              float* row, bool pairs, int head_dim) {
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
  SINKLORA_UNROLL
  for (int n = 0; n < D / 8; ++n) {
    if (n * 8 >= head_dim) break;
    const float2 pair =
        make_float2(acc[n][half * 2] * factor, acc[n][half * 2 + 1] * factor);
    float* at = row + n * 8 + column;
    if (pairs) {
      *reinterpret_cast<float2*>(at) = pair;
    } else {
      at[0] = pair.x;
      at[1] = pair.y;
    }
  }
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_TILE_CUDA_INL_H_
