// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {

void AdamW(const AdamWParams& p) {
  const double correction1 = 1.0 - std::pow(double{p.beta1}, p.step);
  const double correction2 = 1.0 - std::pow(double{p.beta2}, p.step);
  const int64_t n = p.param.num_elements();
  float* param = p.param.as<float>();
  float* m = p.m.as<float>();
  float* v = p.v.as<float>();
  for (int64_t i = 0; i < n; ++i) {
    const double g = double{p.grad_scale} * p.grad.as<float>()[i];
    const double next_m = p.beta1 * double{m[i]} + (1.0 - p.beta1) * g;
    const double next_v = p.beta2 * double{v[i]} + (1.0 - p.beta2) * g * g;
    const double step =
        next_m / correction1 / (std::sqrt(next_v / correction2) + p.eps) +
        p.weight_decay * double{param[i]};
    m[i] = static_cast<float>(next_m);
    v[i] = static_cast<float>(next_v);
    param[i] = static_cast<float>(param[i] - p.learning_rate * step);
  }
}

}  // namespace sinklora::kernels::reference
