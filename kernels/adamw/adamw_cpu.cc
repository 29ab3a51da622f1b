// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/adamw/adamw_factors.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adamw/adamw_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

void AdamWBlock(const AdamWFactors& f, const float* grad, float* param,
                float* m, float* v, int64_t n) {
  const F32Tag d;
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32Vec g = hn::Mul(lanes.Load(d, grad + i), hn::Set(d, f.grad_scale));
    const F32Vec old = lanes.Load(d, param + i);
    const F32Vec next_m = hn::MulAdd(hn::Set(d, f.beta1), lanes.Load(d, m + i),
                                     hn::Mul(hn::Set(d, f.one_minus_beta1), g));
    const F32Vec next_v =
        hn::MulAdd(hn::Set(d, f.beta2), lanes.Load(d, v + i),
                   hn::Mul(hn::Set(d, f.one_minus_beta2), hn::Mul(g, g)));
    const F32Vec root =
        hn::Sqrt(hn::Mul(next_v, hn::Set(d, f.inv_correction2)));
    const F32Vec ratio = hn::Div(hn::Mul(next_m, hn::Set(d, f.inv_correction1)),
                                 hn::Add(root, hn::Set(d, f.eps)));
    const F32Vec step = hn::MulAdd(hn::Set(d, f.weight_decay), old, ratio);
    lanes.Store(next_m, d, m + i);
    lanes.Store(next_v, d, v + i);
    lanes.Store(hn::NegMulAdd(hn::Set(d, f.learning_rate), step, old), d,
                param + i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(AdamWBlock);

void AdamW(const AdamWParams& p, CpuContext& context) {
  const AdamWFactors factors = FactorsOf(p);
  const auto update = [&](int64_t begin, int64_t n) {
    HWY_DYNAMIC_DISPATCH(AdamWBlock)
    (factors, p.grad.as<float>() + begin, p.param.as<float>() + begin,
     p.m.as<float>() + begin, p.v.as<float>() + begin, n);
  };
  if (!p.rows.empty()) {
    const int64_t columns = p.param.shape[1];
    const int32_t* rows = p.rows.as<int32_t>();
    ParallelBlocks(context.pool, p.rows.shape[0], RowsPerTask(columns),
                   [&](int64_t begin, int64_t end, int) {
                     for (int64_t i = begin; i < end; ++i) {
                       update(rows[i] * columns, columns);
                     }
                   });
    return;
  }
  ParallelBlocks(
      context.pool, p.param.num_elements(), kTaskElements,
      [&](int64_t begin, int64_t end, int) { update(begin, end - begin); });
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
