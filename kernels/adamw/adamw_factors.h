// Scalars of one AdamW update, the same for every element and in every backend.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ADAMW_ADAMW_FACTORS_H_
#define SINKLORA_KERNELS_ADAMW_ADAMW_FACTORS_H_

#include <cmath>

#include "kernels/adamw/adamw.h"

namespace sinklora::kernels {

struct AdamWFactors {
  float grad_scale, beta1, one_minus_beta1, beta2, one_minus_beta2;
  float inv_correction1, inv_correction2, eps, weight_decay, learning_rate;
};

inline AdamWFactors FactorsOf(const AdamWParams& p) {
  const double beta1 = p.beta1;
  const double beta2 = p.beta2;
  const double step = static_cast<double>(p.step);
  return {.grad_scale = p.grad_scale,
          .beta1 = p.beta1,
          .one_minus_beta1 = static_cast<float>(1.0 - beta1),
          .beta2 = p.beta2,
          .one_minus_beta2 = static_cast<float>(1.0 - beta2),
          .inv_correction1 =
              static_cast<float>(1.0 / (1.0 - std::pow(beta1, step))),
          .inv_correction2 =
              static_cast<float>(1.0 / (1.0 - std::pow(beta2, step))),
          .eps = p.eps,
          .weight_decay = p.weight_decay,
          .learning_rate = p.learning_rate};
}

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_ADAMW_ADAMW_FACTORS_H_
