// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw/adamw_factors.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_list.h"

namespace sinklora::kernels::cuda {
namespace {

struct State {
  const float* grad;
  float* param;
  float* m;
  float* v;

  SINKLORA_DEVICE void Update(const AdamWFactors& f, int64_t i) const {
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
};

SINKLORA_GLOBAL void AdamWKernel(AdamWFactors f, State state, int64_t n) {
  for (int64_t i = FlatThread(); i < n; i += FlatThreads()) state.Update(f, i);
}

// Block (place in the list, range of kRowColumns).
SINKLORA_GLOBAL void AdamWRowsKernel(AdamWFactors f, State state, RowList list,
                                     DeviceFaults* faults) {
  const RowPart part =
      list.Part(faults, ValueCheck::kAdamWRows, ValueCheck::kAdamWRowOrder);
  for (int64_t i = part.begin + threadIdx.x; i < part.end; i += kBlockThreads) {
    state.Update(f, i);
  }
}

}  // namespace

Status AdamWCuda(const AdamWParams& p, CudaContext& context) {
  const State state{p.grad.as<float>(), p.param.as<float>(), p.m.as<float>(),
                    p.v.as<float>()};
  if (!p.rows.empty()) {
    const RowList list = RowListOf(p.rows, p.param);
    return Launch("adamw_rows", AdamWRowsKernel, ShapeOf(list),
                  context.stream(), FactorsOf(p), state, list,
                  context.faults());
  }
  const int64_t n = p.param.num_elements();
  return Launch("adamw", AdamWKernel,
                {.grid = dim3(FlatBlocks(n, context.device().sm_count)),
                 .block = dim3(kBlockThreads)},
                context.stream(), FactorsOf(p), state, n);
}

}  // namespace sinklora::kernels::cuda
