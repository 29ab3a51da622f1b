// Token embedding lookup and its sparse gradient.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_EMBEDDING_EMBEDDING_H_
#define SINKLORA_KERNELS_EMBEDDING_EMBEDDING_H_

#include "kernels/tensor.h"

namespace sinklora::kernels {

// out[t] = table[ids[t]]. An id outside [0, vocab) is kInvalidArgument, nothing
// is written.
struct EmbeddingForwardParams {
  ConstTensorView ids;    // [tokens] i32
  ConstTensorView table;  // [vocab, dim] f32 or bf16
  TensorView out;         // [tokens, dim] f32
};

// dtable[ids[t]] += dout[t], repeated ids added in token order.
struct EmbeddingBackwardParams {
  ConstTensorView ids;   // [tokens] i32
  ConstTensorView dout;  // [tokens, dim] f32
  TensorView dtable;     // [vocab, dim] f32
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_EMBEDDING_EMBEDDING_H_
