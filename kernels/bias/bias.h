// Bias of a linear layer. Everything is f32.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_BIAS_BIAS_H_
#define SINKLORA_KERNELS_BIAS_BIAS_H_

#include "kernels/tensor.h"

namespace sinklora::kernels {

// out[t] += bias for every row t.
struct BiasForwardParams {
  ConstTensorView bias;  // [columns]
  TensorView out;        // [tokens, columns]
};

// dbias += sum over t of dout[t], in an order that the number of tokens fixes.
struct BiasBackwardParams {
  ConstTensorView dout;  // [tokens, columns]
  TensorView dbias;      // [columns]
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_BIAS_BIAS_H_
