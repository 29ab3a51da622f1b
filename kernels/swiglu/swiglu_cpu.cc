// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/swiglu/swiglu_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Never overflows: exp only ever sees -|x|.
HWY_INLINE F32Vec Sigmoid(F32Tag d, F32Vec x) {
  const F32Vec e = Exp(d, hn::Neg(hn::Abs(x)));
  const F32Vec one = hn::Set(d, 1.0f);
  const F32Vec top = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one);
  return hn::Div(top, hn::Add(one, e));
}

void SwiGluRow(const float* gate, const float* up, float* out, int64_t n) {
  const F32Tag d;
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32Vec g = lanes.Load(d, gate + i);
    const F32Vec u = lanes.Load(d, up + i);
    lanes.Store(hn::Mul(hn::Mul(g, Sigmoid(d, g)), u), d, out + i);
  });
}

void SwiGluGradRow(const float* dout, const float* gate, const float* up,
                   float* dgate, float* dup, int64_t n) {
  const F32Tag d;
  const F32Vec one = hn::Set(d, 1.0f);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32Vec g = lanes.Load(d, gate + i);
    const F32Vec u = lanes.Load(d, up + i);
    const F32Vec o = lanes.Load(d, dout + i);
    const F32Vec s = Sigmoid(d, g);
    const F32Vec slope = hn::MulAdd(g, hn::Sub(one, s), one);
    lanes.Store(hn::Mul(hn::Mul(o, u), hn::Mul(s, slope)), d, dgate + i);
    lanes.Store(hn::Mul(o, hn::Mul(g, s)), d, dup + i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(SwiGluRow);
HWY_EXPORT(SwiGluGradRow);

void SwiGluForward(const SwiGluForwardParams& p, CpuContext& context) {
  const int64_t hidden = p.gate.shape[1];
  ParallelBlocks(context.pool, p.gate.shape[0], RowsPerTask(hidden),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = begin; t < end; ++t) {
                     HWY_DYNAMIC_DISPATCH(SwiGluRow)
                     (At(p.gate, t), At(p.up, t), At(p.out, t), hidden);
                   }
                 });
}

void SwiGluBackward(const SwiGluBackwardParams& p, CpuContext& context) {
  const int64_t hidden = p.gate.shape[1];
  ParallelBlocks(context.pool, p.gate.shape[0], RowsPerTask(hidden),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = begin; t < end; ++t) {
                     HWY_DYNAMIC_DISPATCH(SwiGluGradRow)
                     (At(p.dout, t), At(p.gate, t), At(p.up, t), At(p.dgate, t),
                      At(p.dup, t), hidden);
                   }
                 });
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
