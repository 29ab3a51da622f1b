// Output projection fused with cross-entropy, in chunks of tokens: the full
// logits never exist.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_LINEAR_CROSS_ENTROPY_LINEAR_CROSS_ENTROPY_H_
#define SINKLORA_KERNELS_LINEAR_CROSS_ENTROPY_LINEAR_CROSS_ENTROPY_H_

#include <cstdint>

#include "kernels/quantized_matmul/quantized_matrix.h"
#include "kernels/tensor.h"

namespace sinklora::kernels {

// For each token t with labels[t] >= 0:
//   nll[t] = logsumexp(logits) - logits[labels[t]],   logits = hidden[t] *
//   weight^T
// and, where gradients are asked for, with g[t] = loss_scale * (softmax(logits)
// - onehot(labels[t])):
//   dhidden[t] = g[t] * weight  (0 for ignored tokens),   dweight += g^T *
//   hidden.
// A bf16 weight rounds the other operand of each product to bf16, as MatMul
// does: hidden and g, of dweight's product too.
// Tokens with label -1 are ignored and cost nothing; a label >= vocab or < -1
// is kInvalidArgument.
struct LinearCrossEntropyParams {
  ConstTensorView hidden;  // [tokens, dim] f32
  ConstTensorView weight;  // [vocab, dim] f32 or bf16
  ConstTensorView labels;  // [tokens] i32: the token to predict at t, or -1
  // In place of `weight`: the same packed, without gradients. `products` as of
  // QuantizedMatMulParams.
  QuantizedMatrix quantized_weight{};
  DType products = DType::kF32;
  float loss_scale = 1.0f;  // 1 / supervised tokens of the whole optimizer step
  int64_t max_logits_bytes =
      int64_t{64} << 20;  // bound on the chunk of logits held at once

  TensorView nll{};      // [tokens] f32, 0 for ignored tokens; or empty
  TensorView dhidden{};  // [tokens, dim] f32, overwritten; or empty
  TensorView dweight{};  // [vocab, dim] f32, added to; or empty
  double* nll_sum =
      nullptr;  // required: sum of nll over supervised tokens, in nats
  int64_t* supervised_tokens = nullptr;  // required

  int64_t vocab() const {
    return quantized_weight.empty() ? weight.shape[0] : quantized_weight.rows;
  }
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_LINEAR_CROSS_ENTROPY_LINEAR_CROSS_ENTROPY_H_
