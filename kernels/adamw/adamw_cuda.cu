// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw/adamw_factors.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

SINKLORA_GLOBAL void AdamWKernel(AdamWFactors f, const float* grad,
                                 float* param, float* m, float* v, int64_t n) {
  for (int64_t i = FlatThread(); i < n; i += FlatThreads()) {
    const float g = grad[i] * f.grad_scale;
    const float old = param[i];
    const float next_m = fmaf(f.beta1, m[i], f.one_minus_beta1 * g);
    const float next_v = fmaf(f.beta2, v[i], f.one_minus_beta2 * (g * g));
    const float ratio = next_m * f.inv_correction1 /
                        (sqrtf(next_v * f.inv_correction2) + f.eps);
    m[i] = next_m;
    v[i] = next_v;
    param[i] = fmaf(-f.learning_rate, fmaf(f.weight_decay, old, ratio), old);
  }
}

}  // namespace

Status AdamWCuda(const AdamWParams& p, CudaContext& context) {
  const int64_t n = p.param.num_elements();
  return Launch("adamw", AdamWKernel,
                {.grid = dim3(FlatBlocks(n, context.device().sm_count)),
                 .block = dim3(kBlockThreads)},
                context.stream(), FactorsOf(p), p.grad.as<float>(),
                p.param.as<float>(), p.m.as<float>(), p.v.as<float>(), n);
}

}  // namespace sinklora::kernels::cuda
