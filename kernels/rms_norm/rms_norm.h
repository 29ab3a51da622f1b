// Root-mean-square normalisation. Source: Zhang & Sennrich 2019; Llama.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_RMS_NORM_RMS_NORM_H_
#define SINKLORA_KERNELS_RMS_NORM_RMS_NORM_H_

#include "kernels/tensor.h"

namespace sinklora::kernels {

// out = x * inv_rms * weight with inv_rms = 1 / sqrt(mean(x^2) + eps). All f32
// (weight f32 or bf16).
struct RmsNormForwardParams {
  ConstTensorView x;       // [tokens, dim]
  ConstTensorView weight;  // [dim]
  float eps = 1e-5f;
  TensorView out;        // [tokens, dim]; may be x
  TensorView inv_rms{};  // [tokens] f32, or empty when no backward follows
};

// dx += gradient when accumulate_dx, else dx = gradient. dweight, when given,
// is added to.
struct RmsNormBackwardParams {
  ConstTensorView dout;     // [tokens, dim]
  ConstTensorView x;        // [tokens, dim]
  ConstTensorView weight;   // [dim]
  ConstTensorView inv_rms;  // [tokens]
  TensorView dx;            // [tokens, dim]; must not overlap dout or x
  bool accumulate_dx = false;
  TensorView dweight{};  // [dim] f32, or empty for a frozen norm
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_RMS_NORM_RMS_NORM_H_
