// Matrix products that slim_gemm.h has a kernel for, cut for the threads.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_SLIM_MATMUL_H_
#define SINKLORA_KERNELS_MATMUL_SLIM_MATMUL_H_

#include "kernels/cpu/cpu_context.h"
#include "kernels/matmul/matmul.h"

namespace sinklora::kernels::cpu {

// Computes `p` and returns true where it is slim, f32, and faster so than by
// the GemmEngine: k, n or (a transposed) m at most kSlim. Which products these
// are does not depend on m, so neither do the bits of a row; where m decides,
// the bits are those of the GemmEngine. REQUIRES: m, n, k >= 1. Throws
// std::bad_alloc.
bool SlimMatMul(const MatMulParams& p, CpuContext& context);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_MATMUL_SLIM_MATMUL_H_
