// Scalars of one AdamW update, the same for every element. Own header: it
// crosses the per-target namespaces.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ADAMW_ADAMW_FACTORS_H_
#define SINKLORA_KERNELS_ADAMW_ADAMW_FACTORS_H_

namespace sinklora::kernels::cpu {

struct AdamWFactors {
  float grad_scale, beta1, one_minus_beta1, beta2, one_minus_beta2;
  float inv_correction1, inv_correction2, eps, weight_decay, learning_rate;
};

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_ADAMW_ADAMW_FACTORS_H_
