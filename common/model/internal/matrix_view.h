// A matrix of the graph as it is stored: dense, or packed for serving.
//
// Views own nothing. Plain values: thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_MATRIX_VIEW_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_MATRIX_VIEW_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace sinklora::internal {

// At most one of the two is there.
struct MatrixView {
  kernels::ConstTensorView dense;      // [rows, columns] f32 or bf16
  kernels::QuantizedMatrix quantized;  // served only, never trained

  MatrixView() = default;
  MatrixView(const kernels::ConstTensorView& view)  // NOLINT: implicit
      : dense(view) {}
  MatrixView(const kernels::QuantizedMatrix& view)  // NOLINT: implicit
      : quantized(view) {}

  bool empty() const { return dense.empty() && quantized.empty(); }
  int64_t rows() const {
    return quantized.empty() ? dense.shape[0] : quantized.rows;
  }
  int64_t columns() const {
    return quantized.empty() ? dense.shape[1] : quantized.cols;
  }
};

// out[tokens, rows] = x[tokens, columns] W^T. `products` of a packed matrix:
// see QuantizedMatMulParams; f32 when few tokens decode, bf16 for many.
absl::Status Multiply(kernels::Backend* backend,
                      const kernels::ConstTensorView& x, const MatrixView& w,
                      kernels::DType products, const kernels::TensorView& out);
// out[i] f32 = row ids[i].
absl::Status LookUpRows(kernels::Backend* backend, const MatrixView& w,
                        const kernels::ConstTensorView& ids,
                        const kernels::TensorView& out);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_MATRIX_VIEW_H_
