// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw/adamw_validate.h"

#include <cmath>

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const AdamWParams& p, Values values) {
  const Extent n{p.param.num_elements(), "elements of param"};
  const auto unit = [](float x) { return x >= 0.0f && x < 1.0f; };
  return Validator("adamw", values)
      .Flat("param", p.param, kF32, kAny)
      .Flat("grad", p.grad, kF32, n)
      .Flat("m", p.m, kF32, n)
      .Flat("v", p.v, kF32, n)
      .Value(p.step >= 1, "step", p.step, ">= 1")
      .Value(std::isfinite(p.learning_rate), "learning_rate", p.learning_rate,
             "finite")
      .Value(unit(p.beta1), "beta1", p.beta1, "in [0, 1)")
      .Value(unit(p.beta2), "beta2", p.beta2, "in [0, 1)")
      .Value(p.eps > 0.0f && std::isfinite(p.eps), "eps", p.eps,
             "finite and > 0")
      .Value(std::isfinite(p.weight_decay), "weight_decay", p.weight_decay,
             "finite")
      .Value(std::isfinite(p.grad_scale), "grad_scale", p.grad_scale, "finite")
      .AscendingRows(p.rows, "param", p.param)
      .Value(p.rows.empty() || p.weight_decay == 0.0f, "weight_decay",
             p.weight_decay, "0 where rows are given")
      .status();
}

}  // namespace sinklora::kernels
