// Portable dense f32 matrix product for processors without oneDNN's
// batch-invariant kernels.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_SIMD_GEMM_H_
#define SINKLORA_KERNELS_MATMUL_SIMD_GEMM_H_

#include "kernels/cpu/scratch.h"
#include "kernels/matmul/gemm_engine.h"

namespace sinklora::kernels::cpu {

// As GemmEngine::Run, f32 only, on the calling thread.
void SimdGemm(const GemmShape& shape, const float* a, const float* b,
              float* out, Scratch& scratch);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_MATMUL_SIMD_GEMM_H_
