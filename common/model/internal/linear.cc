// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/linear.h"

#include "common/base/status.h"

namespace sinklora::internal {
namespace {

using kernels::ConstTensorView;
using kernels::MatMulParams;
using kernels::TensorView;

// The scratch is sized for the largest rank; a smaller one uses its front.
TensorView Narrow(const TensorView& scratch, int64_t tokens, int64_t rank) {
  return TensorView(scratch.data, scratch.dtype, {tokens, rank});
}

// out += scale (x A^T) B^T.
absl::Status AddLora(kernels::Backend* backend, const LinearWeights& w,
                     const ConstTensorView& x, const LoraScratch& scratch,
                     const TensorView& out) {
  const TensorView down = Narrow(scratch.down, x.shape[0], w.rank());
  SL_RETURN_IF_KERNEL_ERROR(backend->MatMul(
      {.a = x, .b = w.lora_a, .out = down, .transpose_b = true}));
  return ToAbsl(backend->MatMul({.a = down,
                                 .b = w.lora_b,
                                 .out = out,
                                 .transpose_b = true,
                                 .alpha = w.lora_scale,
                                 .beta = 1.0f}));
}

}  // namespace

absl::Status LinearForward(kernels::Backend* backend, const LinearWeights& w,
                           const ConstTensorView& x, const LoraScratch& scratch,
                           kernels::DType products, const TensorView& out) {
  SL_RETURN_IF_ERROR(Multiply(backend, x, w.weight, products, out));
  if (w.rank() > 0) {
    SL_RETURN_IF_ERROR(AddLora(backend, w, x, scratch, out));
  }
  // DoRA rescales the product, not the bias.
  if (!w.row_scale.empty()) {
    SL_RETURN_IF_KERNEL_ERROR(
        backend->ScaleColumns({.x = out, .factors = w.row_scale}));
  }
  if (w.bias.empty()) return absl::OkStatus();
  return ToAbsl(backend->BiasForward({.bias = w.bias, .out = out}));
}

absl::Status LinearBackward(kernels::Backend* backend, const LinearWeights& w,
                            const LoraScratch& scratch,
                            const LinearBackwardArgs& args) {
  if (!w.dweight.empty()) {
    SL_RETURN_IF_KERNEL_ERROR(backend->MatMul({.a = args.dout,
                                               .b = args.x,
                                               .out = w.dweight,
                                               .transpose_a = true,
                                               .beta = 1.0f}));
  }
  if (!w.dbias.empty()) {
    SL_RETURN_IF_KERNEL_ERROR(
        backend->BiasBackward({.dout = args.dout, .dbias = w.dbias}));
  }
  const int64_t rank = w.rank();
  const TensorView ddown = Narrow(scratch.ddown, args.x.shape[0], rank);
  if (rank > 0) {
    const TensorView down = Narrow(scratch.down, args.x.shape[0], rank);
    SL_RETURN_IF_KERNEL_ERROR(backend->MatMul(
        {.a = args.dout, .b = w.lora_b, .out = ddown, .alpha = w.lora_scale}));
    // x A^T again rather than kept: rank columns cost nothing to recompute.
    SL_RETURN_IF_KERNEL_ERROR(backend->MatMul(
        {.a = args.x, .b = w.lora_a, .out = down, .transpose_b = true}));
    if (!w.dlora_b.empty()) {
      SL_RETURN_IF_KERNEL_ERROR(backend->MatMul({.a = args.dout,
                                                 .b = down,
                                                 .out = w.dlora_b,
                                                 .transpose_a = true,
                                                 .alpha = w.lora_scale,
                                                 .beta = 1.0f}));
    }
    if (!w.dlora_a.empty()) {
      SL_RETURN_IF_KERNEL_ERROR(backend->MatMul({.a = ddown,
                                                 .b = args.x,
                                                 .out = w.dlora_a,
                                                 .transpose_a = true,
                                                 .beta = 1.0f}));
    }
  }
  SL_RETURN_IF_KERNEL_ERROR(
      backend->MatMul({.a = args.dout,
                       .b = w.weight.dense,
                       .out = args.dx,
                       .beta = args.accumulate_dx ? 1.0f : 0.0f}));
  if (rank == 0) return absl::OkStatus();
  return ToAbsl(backend->MatMul(
      {.a = ddown, .b = w.lora_a, .out = args.dx, .beta = 1.0f}));
}

}  // namespace sinklora::internal
