// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope/rope_validate.h"

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const RopeParams& p, Values values) {
  const Extent half{p.x.shape[2] / 2, "half of x.shape[2]"};
  const Extent rows{p.cos.shape[0], "rows of cos"};
  return Validator("rope", values)
      .Tensor("x", p.x, kF32, {kAny, kAny, kAny})
      .Value(p.x.shape[2] % 2 == 0, "x.shape[2]", p.x.shape[2], "even")
      .Tensor("positions", p.positions, kI32, {{p.x.shape[0], "tokens of x"}})
      .Tensor("cos", p.cos, kF32, {kAny, half})
      .Tensor("sin", p.sin, kF32, {rows, half})
      .Range("positions", p.positions, 0, p.cos.shape[0])
      .status();
}

}  // namespace sinklora::kernels
