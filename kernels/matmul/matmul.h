// Matrix product. Source: BLAS GEMM.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_MATMUL_H_
#define SINKLORA_KERNELS_MATMUL_MATMUL_H_

#include "kernels/tensor.h"

namespace sinklora::kernels {

// out[m, n] = alpha * op(a)[m, k] * op(b)[k, n] + beta * out[m, n], op(x) = x
// or x transposed. a, b: f32 or bf16, rank 2, unit stride in the last
// dimension; where they differ, the f32 operand is rounded to bf16 first. out:
// f32 or bf16. beta 0 ignores what `out` held (NaN included). m, n or k may be
// 0. A row of `out` has the same bits whatever m is: batching never changes a
// result.
struct MatMulParams {
  ConstTensorView a;  // [m, k], or [k, m] with transpose_a
  ConstTensorView b;  // [k, n], or [n, k] with transpose_b
  TensorView out;     // [m, n]; must not overlap a or b
  bool transpose_a = false;
  bool transpose_b = false;
  float alpha = 1.0f;
  float beta = 0.0f;  // 0 or 1
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_MATMUL_MATMUL_H_
