// Product of a few rows with a matrix in its usual layout, at the speed at
// which memory delivers the matrix: decoding.
//
// oneDNN copies the matrix into a layout of its own for every product, which
// costs more than the product when there is a row or two. Here 16 rows of b are
// transposed in registers on their way. Bits are oneDNN's: an element is the
// sum, in order, of one chain of multiply-adds for each `chunk` of k;
// GemmEngine finds out which chunk that is.
//
// Thread-safe: no state. x86-64 only. REQUIRES: AVX-512, and AVX512-BF16 for
// bf16 (cpu_isa.h); the function does not check.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_FEW_ROWS_GEMM_H_
#define SINKLORA_KERNELS_MATMUL_FEW_ROWS_GEMM_H_

#include <cstdint>

#include "kernels/matmul/gemm_engine.h"

namespace sinklora::kernels::cpu {

inline constexpr int64_t kFewRows = 8;

// Whether FewRowsGemm computes the shape: at most kFewRows rows, b transposed,
// an f32 result that is not accumulated with a factor, even k in bf16.
bool IsFewRows(const GemmShape& shape);

// As GemmEngine::Run. REQUIRES: IsFewRows(shape), chunk >= 1 and a multiple of
// 32 unless it is at least k.
void FewRowsGemm(const GemmShape& shape, int64_t chunk, const void* a,
                 const void* b, float* out);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_MATMUL_FEW_ROWS_GEMM_H_
