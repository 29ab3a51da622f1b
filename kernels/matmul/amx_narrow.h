// AMX products of 32 rows with a few columns, in tiles that hold no more
// columns than there are: what decoding makes of weights.
//
// Results are the tiles 0 and 1, 16 rows each, which are added to.
//
// Thread-safe: no state but the tiles of the thread. x86-64 only. REQUIRES for
// all: a TileScope of so many columns on this thread.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_AMX_NARROW_H_
#define SINKLORA_KERNELS_MATMUL_AMX_NARROW_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

// What PackNarrowTileColumns makes.
struct NarrowColumns {
  const uint32_t* words;
  int64_t columns;
};

// Rows of k elements as they lie in memory, one after the other, k a multiple
// of 32.
void AddNarrowInPlace(const bf16_t* rows, int64_t k, const NarrowColumns& c);

// Rows as two lines of `tiles` tiles, one after the other (PackTileRows).
void AddNarrowPacked(const char* rows, int64_t tiles, const NarrowColumns& c);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_MATMUL_AMX_NARROW_H_
