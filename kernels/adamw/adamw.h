// AdamW update of one tensor. Source: Loshchilov & Hutter 2019 (decoupled
// weight decay).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ADAMW_ADAMW_H_
#define SINKLORA_KERNELS_ADAMW_ADAMW_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace sinklora::kernels {

// m = beta1*m + (1-beta1)*g;  v = beta2*v + (1-beta2)*g^2, with g = grad_scale
// * grad; param -= lr * (m / (1-beta1^step) / (sqrt(v / (1-beta2^step)) + eps)
// + weight_decay * param).
struct AdamWParams {
  TensorView param;      // [n] f32 master weights, any rank, contiguous
  ConstTensorView grad;  // [n] f32
  TensorView m;          // [n] f32 first moment
  TensorView v;          // [n] f32 second moment
  int64_t step = 1;      // >= 1
  float learning_rate = 0.0f;
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  float weight_decay = 0.0f;
  float grad_scale = 1.0f;  // clipping factor
  // [count] i32 ascending, or empty. Where given, tensors are [rows, columns],
  // grad, m and v are zero outside of these rows, and weight_decay is 0: the
  // other rows stay as they are. They may go unread, or else `rows` may.
  ConstTensorView rows{};
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_ADAMW_ADAMW_H_
