// Rotary position embedding, half-split form (pairs (i, i + head_dim/2)).
// Source: RoFormer; Hugging Face Llama.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ROPE_ROPE_H_
#define SINKLORA_KERNELS_ROPE_ROPE_H_

#include "kernels/tensor.h"

namespace sinklora::kernels {

// Rotates x in place by the angle of each token's position; `inverse` rotates
// back (the backward pass). Position interpolation and every other scaling live
// in the tables, not here.
struct RopeParams {
  TensorView x;               // [tokens, heads, head_dim] f32, unit last stride
  ConstTensorView positions;  // [tokens] i32, each in [0, table rows)
  ConstTensorView cos;        // [rows, head_dim / 2] f32
  ConstTensorView sin;        // [rows, head_dim / 2] f32
  bool inverse = false;
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_ROPE_ROPE_H_
