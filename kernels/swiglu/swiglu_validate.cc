// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu/swiglu_validate.h"

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const SwiGluForwardParams& p) {
  const Extent tokens{p.gate.shape[0], "rows of gate"};
  const Extent hidden{p.gate.shape[1], "columns of gate"};
  return Validator("swiglu_forward")
      .Tensor("gate", p.gate, kF32, {kAny, kAny})
      .Tensor("up", p.up, kF32, {tokens, hidden})
      .Tensor("out", p.out, kF32, {tokens, hidden})
      .status();
}

Status Validate(const SwiGluBackwardParams& p) {
  const Extent tokens{p.gate.shape[0], "rows of gate"};
  const Extent hidden{p.gate.shape[1], "columns of gate"};
  return Validator("swiglu_backward")
      .Tensor("gate", p.gate, kF32, {kAny, kAny})
      .Tensor("up", p.up, kF32, {tokens, hidden})
      .Tensor("dout", p.dout, kF32, {tokens, hidden})
      .Tensor("dgate", p.dgate, kF32, {tokens, hidden})
      .Tensor("dup", p.dup, kF32, {tokens, hidden})
      .NoOverlap("dgate", p.dgate, "dup", p.dup)
      .status();
}

}  // namespace sinklora::kernels
