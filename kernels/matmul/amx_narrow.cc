// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/amx_narrow.h"

#include "kernels/cpu/amx.h"

namespace sinklora::kernels::cpu {
namespace {

constexpr int64_t kRows = 2 * kTileRows;
// How far ahead of its use memory is asked for.
constexpr int64_t kLinesAhead = 6;

SINKLORA_AMX_TARGET inline void LoadColumns(const NarrowColumns& c,
                                            int64_t tile) {
  _tile_loadd(6, c.words + tile * kTilePairs * c.columns, c.columns * 4);
}

}  // namespace

SINKLORA_AMX_TARGET void AddNarrowInPlace(const bf16_t* rows, int64_t k,
                                          const NarrowColumns& c) {
  const int64_t stride = k * static_cast<int64_t>(sizeof(bf16_t));
  for (int64_t s = 0; s < k / kTileElements; ++s) {
    // Of each row some lines ahead, or past its end of the row of the 32 that
    // follow.
    const int64_t at = (s + kLinesAhead) * kTileElements;
    const bf16_t* ahead = rows + at + (at < k ? 0 : (kRows - 1) * k);
#pragma GCC unroll 32
    for (int i = 0; i < kRows; ++i) {
      _mm_prefetch(ahead + i * k, _MM_HINT_T0);
    }
    const bf16_t* upper = rows + s * kTileElements;
    LoadColumns(c, s);
    _tile_loadd(4, upper, stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, upper + kTileRows * k, stride);
    _tile_dpbf16ps(1, 5, 6);
  }
}

SINKLORA_AMX_TARGET void AddNarrowPacked(const char* rows, int64_t tiles,
                                         const NarrowColumns& c) {
  for (int64_t s = 0; s < tiles; ++s) {
    LoadColumns(c, s);
    _tile_loadd(4, rows + s * kTileBytes, kTileRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, rows + (tiles + s) * kTileBytes, kTileRowBytes);
    _tile_dpbf16ps(1, 5, 6);
  }
}

}  // namespace sinklora::kernels::cpu
