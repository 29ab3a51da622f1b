// Bf16Gemm of bf16_gemm.h in AMX tiles, for the small products of attention.
//
// The summed dimension is cut at multiples of 32 of its own index, whatever
// [begin, end) is, so that an output's bits do not depend on the tile it is
// computed in, nor on where a range of zeros is left out.
//
// Thread-safe: no state but the tiles of the thread. x86-64 only.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_AMX_TILE_GEMM_H_
#define SINKLORA_KERNELS_CPU_AMX_TILE_GEMM_H_

#include <cstdint>

#include "kernels/cpu/bf16_gemm.h"

namespace sinklora::kernels::cpu {

// As Bf16Gemm, but that elements of a outside [begin, end) count as zero too,
// whatever they hold. REQUIRES: a TileScope (amx.h) on this thread; rows <= 64,
// cols <= 256; a_step is 1; the range ends at 256 at most.
void AmxTileGemm(const Bf16GemmTile& tile, int64_t begin, int64_t end,
                 int64_t rows, int64_t cols);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_AMX_TILE_GEMM_H_
