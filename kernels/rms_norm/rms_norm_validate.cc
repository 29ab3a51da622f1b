// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm/rms_norm_validate.h"

#include <cmath>

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const RmsNormForwardParams& p) {
  const Extent tokens{p.x.shape[0], "rows of x"};
  const Extent dim{p.x.shape[1], "columns of x"};
  return Validator("rms_norm_forward")
      .Tensor("x", p.x, kF32, {kAny, kAny})
      .Tensor("weight", p.weight, kFloat, {dim})
      .Tensor("out", p.out, kF32, {tokens, dim})
      .OptionalTensor("inv_rms", p.inv_rms, kF32, {tokens})
      .Value(p.eps >= 0.0f && std::isfinite(p.eps), "eps", p.eps,
             "finite and >= 0")
      .status();
}

Status Validate(const RmsNormBackwardParams& p) {
  const Extent tokens{p.x.shape[0], "rows of x"};
  const Extent dim{p.x.shape[1], "columns of x"};
  return Validator("rms_norm_backward")
      .Tensor("x", p.x, kF32, {kAny, kAny})
      .Tensor("dout", p.dout, kF32, {tokens, dim})
      .Tensor("weight", p.weight, kFloat, {dim})
      .Tensor("inv_rms", p.inv_rms, kF32, {tokens})
      .Tensor("dx", p.dx, kF32, {tokens, dim})
      .OptionalTensor("dweight", p.dweight, kF32, {dim})
      .NoOverlap("dx", p.dx, "dout", p.dout)
      .NoOverlap("dx", p.dx, "x", p.x)
      .status();
}

}  // namespace sinklora::kernels
