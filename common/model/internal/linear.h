// A linear layer with an optional LoRA path, forward and backward.
//
// Source: LoRA (2106.09685), DoRA (2402.09353). The low-rank product is never
// merged into the weight.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_LINEAR_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_LINEAR_H_

#include "absl/status/status.h"
#include "common/model/internal/model_weights.h"
#include "kernels/backend.h"

namespace sinklora::internal {

// Room for two [tokens, rank] matrices, shared by all linear layers. Empty
// without LoRA.
struct LoraScratch {
  kernels::TensorView down;   // [tokens, max rank] f32: x A^T
  kernels::TensorView ddown;  // its gradient; empty when no backward follows
};

// out[tokens, out] =
//     (x[tokens, in] W^T + scale (x A^T) B^T) * row_scale + bias.
// `products` of a packed W: see Multiply; A and B are f32 either way.
absl::Status LinearForward(kernels::Backend* backend, const LinearWeights& w,
                           const kernels::ConstTensorView& x,
                           const LoraScratch& scratch, kernels::DType products,
                           const kernels::TensorView& out);

struct LinearBackwardArgs {
  kernels::ConstTensorView x;     // [tokens, in], the forward input
  kernels::ConstTensorView dout;  // [tokens, out]
  kernels::TensorView
      dx;  // [tokens, in]; may be x: it is read before dx is written
  bool accumulate_dx = false;
};
// Adds to the gradients that `w` has, then writes (or adds to) dx. REQUIRES: a
// dense weight and no row_scale (both others are served, not trained).
absl::Status LinearBackward(kernels::Backend* backend, const LinearWeights& w,
                            const LoraScratch& scratch,
                            const LinearBackwardArgs& args);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_LINEAR_H_
