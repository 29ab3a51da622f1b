// Matrix products of bf16 operands in AMX tiles (kernels/cpu/amx.h).
//
// An element's bits depend on its row of a, its column of b and k alone: k is
// summed in tiles of 32, in order, whatever m, n and the layout of b are.
// oneDNN, which has such kernels too, turns to others where m is small, and so
// to other bits.
//
// A single row reads b as it lies, at the speed of memory; larger operands are
// packed into tiles a part at a time, or b once for all of its product's rows.
//
// Thread-safe for calls with distinct scratch. x86-64 only. REQUIRES:
// AmxUsable(); the function does not check.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_AMX_GEMM_H_
#define SINKLORA_KERNELS_MATMUL_AMX_GEMM_H_

#include "kernels/cpu/scratch.h"
#include "kernels/matmul/gemm_engine.h"

namespace sinklora::kernels::cpu {

// As GemmEngine::Run. REQUIRES: shape.dtype is bf16. Throws std::bad_alloc.
void AmxGemm(const GemmShape& shape, const void* a, const void* b, void* out,
             Scratch& scratch);

// Of b in tiles.
int64_t AmxTilesBytes(int64_t n, int64_t k);

// As GemmEngine::PackB.
void AmxPackB(const GemmShape& shape, const bf16_t* b, int64_t column,
              int64_t columns, void* tiles);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_MATMUL_AMX_GEMM_H_
