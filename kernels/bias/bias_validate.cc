// SPDX-License-Identifier: Apache-2.0
#include "kernels/bias/bias_validate.h"

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const BiasForwardParams& p) {
  return Validator("bias_forward")
      .Tensor("out", p.out, kF32, {kAny, kAny})
      .Tensor("bias", p.bias, kF32, {{p.out.shape[1], "columns of out"}})
      .NoOverlap("out", p.out, "bias", p.bias)
      .status();
}

Status Validate(const BiasBackwardParams& p) {
  return Validator("bias_backward")
      .Tensor("dout", p.dout, kF32, {kAny, kAny})
      .Tensor("dbias", p.dbias, kF32, {{p.dout.shape[1], "columns of dout"}})
      .NoOverlap("dbias", p.dbias, "dout", p.dout)
      .status();
}

}  // namespace sinklora::kernels
