// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/matrix_view.h"

#include "common/base/status.h"

namespace sinklora::internal {

using kernels::ConstTensorView;
using kernels::TensorView;

absl::Status Multiply(kernels::Backend* backend, const ConstTensorView& x,
                      const MatrixView& w, kernels::DType products,
                      const TensorView& out) {
  if (w.quantized.empty()) {
    return ToAbsl(backend->MatMul(
        {.a = x, .b = w.dense, .out = out, .transpose_b = true}));
  }
  return ToAbsl(backend->QuantizedMatMul(
      {.a = x, .b = w.quantized, .out = out, .products = products}));
}

absl::Status LookUpRows(kernels::Backend* backend, const MatrixView& w,
                        const ConstTensorView& ids, const TensorView& out) {
  if (w.quantized.empty()) {
    return ToAbsl(
        backend->EmbeddingForward({.ids = ids, .table = w.dense, .out = out}));
  }
  return ToAbsl(
      backend->DequantizeRows({.matrix = w.quantized, .ids = ids, .out = out}));
}

}  // namespace sinklora::internal
