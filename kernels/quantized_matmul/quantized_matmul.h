// Weight-only quantisation for serving: making a packed matrix, multiplying
// with it, and reading rows of it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_QUANTIZED_MATMUL_QUANTIZED_MATMUL_H_
#define SINKLORA_KERNELS_QUANTIZED_MATMUL_QUANTIZED_MATMUL_H_

#include "kernels/quantized_matmul/quantized_matrix.h"
#include "kernels/tensor.h"

namespace sinklora::kernels {

// Packs `weight`. Let top be the largest |weight| of a block of 32; blocks with
// top < kQuantizedTiny become zeros.
//   kInt8: scale = top / 127 in bf16, code = nearest; every weight is off by at
//     most scale / 2 <= top / 254 (1 + 2^-8).
//   kInt4: with w the weight of that magnitude, of the scales f w / level, f in
//     kInt4Factors, level in {-127, 113}, and of each one's least-squares refit
//     to its codes, the one with the smallest squared error, in bf16; codes are
//     nearest. f = 1 is among them, so the rms error of a block is at most
//     14.3 / 127 of top; of normally distributed weights it is 7.4 % of theirs.
// A weight that is not finite is kInvalidArgument, nothing is written.
struct QuantizeParams {
  ConstTensorView weight;  // [rows, cols] f32 or bf16
  QuantizedFormat format = QuantizedFormat::kInt8;
  void* out = nullptr;  // QuantizedBytes(format, rows, cols), 64-byte aligned
};

// out[m, n] = a[m, k] * b^T, b [n, k].
//
// products kF32: a is taken as it is; the CPU from level avx512_bf16 on takes
// it
//   to 2^-15 of the largest |a| of a row's block of 32 (byte_product.h). The
//   sums of blocks enter the result as fma(scale, sum, result), block after
//   block. Beyond that rounding the error is that of an f32 sum of k terms,
//   against exact arithmetic on the packed matrix. For decoding: reads b at the
//   speed of memory.
// products kBF16: a and scale * level are rounded to bf16, then multiplied as
//   in matmul.h: each factor is off by at most 2^-9 of itself. For prefill and
//   scoring: many rows at the speed of bf16 products where the processor has
//   them (else of f32 ones, on the same rounded values).
// Either way a row of `out` has the same bits whatever m is and for any number
// of threads. Which of the two is the caller's choice and never depends on m.
struct QuantizedMatMulParams {
  ConstTensorView a;  // [m, k] f32
  QuantizedMatrix b;  // rows n, cols k
  TensorView out;     // [m, n] f32; must not overlap a
  DType products = DType::kF32;
};

// out[i] = row ids[i] of the matrix, exactly: scale * level rounded to f32. An
// id outside [0, rows) is kInvalidArgument, nothing is written.
struct DequantizeRowsParams {
  QuantizedMatrix matrix;
  ConstTensorView ids;  // [count] i32
  TensorView out;       // [count, cols] f32
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_QUANTIZED_MATMUL_QUANTIZED_MATMUL_H_
