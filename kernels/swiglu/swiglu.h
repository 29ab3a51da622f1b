// SwiGLU activation: out = silu(gate) * up. Source: Shazeer 2020; Llama. All
// tensors f32, contiguous rows.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_SWIGLU_SWIGLU_H_
#define SINKLORA_KERNELS_SWIGLU_SWIGLU_H_

#include "kernels/tensor.h"

namespace sinklora::kernels {

struct SwiGluForwardParams {
  ConstTensorView gate;  // [tokens, hidden]
  ConstTensorView up;    // [tokens, hidden]
  TensorView out;        // [tokens, hidden]; may be gate or up
};

struct SwiGluBackwardParams {
  ConstTensorView dout;  // [tokens, hidden]
  ConstTensorView gate;  // [tokens, hidden]
  ConstTensorView up;    // [tokens, hidden]
  TensorView dgate;      // [tokens, hidden]; may be gate
  TensorView dup;        // [tokens, hidden]; may be up
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_SWIGLU_SWIGLU_H_
