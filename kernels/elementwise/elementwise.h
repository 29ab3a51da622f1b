// Small elementwise ops and reductions. Tensors are contiguous, any rank.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ELEMENTWISE_ELEMENTWISE_H_
#define SINKLORA_KERNELS_ELEMENTWISE_ELEMENTWISE_H_

#include "kernels/tensor.h"

namespace sinklora::kernels {

// *result = sum of x^2, accumulated in double in a fixed order. NaN and Inf
// propagate.
struct SumSquaresParams {
  ConstTensorView x;         // f32
  double* result = nullptr;  // required
  // [count] i32 ascending, or empty. Where given, x is [rows, columns] and zero
  // outside of these rows. They may go unread, or else `rows`: the same bits.
  ConstTensorView rows{};
};

// x[rows[i]] = 0.
struct ZeroRowsParams {
  TensorView x;          // [rows, columns] f32
  ConstTensorView rows;  // [count] i32 ascending
};

// x *= factor.
struct ScaleParams {
  TensorView x;  // f32
  float factor = 1.0f;
};

// x[row, column] *= factors[column].
struct ScaleColumnsParams {
  TensorView x;             // [rows, columns] f32
  ConstTensorView factors;  // [columns] f32; must not overlap x
};

// out += alpha * x.
struct AddParams {
  ConstTensorView x;  // f32
  TensorView out;     // f32, same number of elements
  float alpha = 1.0f;
};

// out = x converted, f32 <-> bf16 (round to nearest even).
struct CastParams {
  ConstTensorView x;
  TensorView out;  // same number of elements
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_ELEMENTWISE_ELEMENTWISE_H_
