// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm/rms_norm_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

float SumOfSquares(const float* x, int64_t n) {
  const F32Tag d;
  F32Vec sum = hn::Zero(d);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32Vec v = lanes.Load(d, x + i);
    sum = hn::MulAdd(v, v, sum);
  });
  return Sum(d, sum);
}

// out = x * factor * weight.
void ScaleRow(const float* x, const float* weight, float factor, float* out,
              int64_t n) {
  const F32Tag d;
  const F32Vec f = hn::Set(d, factor);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32Vec y = hn::Mul(lanes.Load(d, x + i), f);
    lanes.Store(hn::Mul(y, lanes.Load(d, weight + i)), d, out + i);
  });
}

// With r = inv_rms and y = x * r: dx = r * (w * dout - y * mean(w * dout * y)).
void NormGradRow(const float* dout, const float* x, const float* weight,
                 float inv_rms, bool accumulate, float* dx, int64_t n) {
  const F32Tag d;
  const F32Vec r = hn::Set(d, inv_rms);
  F32Vec dot = hn::Zero(d);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32Vec wg =
        hn::Mul(lanes.Load(d, weight + i), lanes.Load(d, dout + i));
    dot = hn::MulAdd(wg, hn::Mul(lanes.Load(d, x + i), r), dot);
  });
  const F32Vec mean = hn::Set(d, Sum(d, dot) / static_cast<float>(n));
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32Vec wg =
        hn::Mul(lanes.Load(d, weight + i), lanes.Load(d, dout + i));
    const F32Vec y = hn::Mul(lanes.Load(d, x + i), r);
    F32Vec gradient = hn::Mul(r, hn::NegMulAdd(y, mean, wg));
    if (accumulate) gradient = hn::Add(gradient, lanes.Load(d, dx + i));
    lanes.Store(gradient, d, dx + i);
  });
}

// sum += dout * x * inv_rms.
void AddWeightGrad(const float* dout, const float* x, float inv_rms, float* sum,
                   int64_t n) {
  const F32Tag d;
  const F32Vec r = hn::Set(d, inv_rms);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32Vec y = hn::Mul(lanes.Load(d, x + i), r);
    lanes.Store(hn::MulAdd(lanes.Load(d, dout + i), y, lanes.Load(d, sum + i)),
                d, sum + i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(SumOfSquares);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(NormGradRow);
HWY_EXPORT(AddWeightGrad);

namespace {

// Columns of dweight a task owns; it walks all tokens, so their order is fixed.
constexpr int64_t kColumnBlock = 64;

// The weight as f32, converted into scratch where stored as bf16.
const float* WeightF32(const ConstTensorView& weight, CpuContext& context) {
  if (weight.dtype == DType::kF32) return weight.as<float>();
  float* copy = context.shared_scratch.Reserve<float>(weight.shape[0]);
  ConvertToF32(weight.as<bf16_t>(), copy, weight.shape[0]);
  return copy;
}

void WeightGradient(const RmsNormBackwardParams& p, CpuContext& context) {
  const float* inv_rms = p.inv_rms.as<float>();
  ParallelBlocks(context.pool, p.x.shape[1], kColumnBlock,
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = 0; t < p.x.shape[0]; ++t) {
                     HWY_DYNAMIC_DISPATCH(AddWeightGrad)
                     (At(p.dout, t) + begin, At(p.x, t) + begin, inv_rms[t],
                      p.dweight.as<float>() + begin, end - begin);
                   }
                 });
}

}  // namespace

void RmsNormForward(const RmsNormForwardParams& p, CpuContext& context) {
  const int64_t dim = p.x.shape[1];
  const float* weight = WeightF32(p.weight, context);
  ParallelBlocks(context.pool, p.x.shape[0], RowsPerTask(dim),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = begin; t < end; ++t) {
                     const float squares =
                         HWY_DYNAMIC_DISPATCH(SumOfSquares)(At(p.x, t), dim);
                     const float inv_rms =
                         1.0f /
                         std::sqrt(squares / static_cast<float>(dim) + p.eps);
                     HWY_DYNAMIC_DISPATCH(ScaleRow)
                     (At(p.x, t), weight, inv_rms, At(p.out, t), dim);
                     if (!p.inv_rms.empty()) p.inv_rms.as<float>()[t] = inv_rms;
                   }
                 });
}

void RmsNormBackward(const RmsNormBackwardParams& p, CpuContext& context) {
  const int64_t dim = p.x.shape[1];
  const float* weight = WeightF32(p.weight, context);
  const float* inv_rms = p.inv_rms.as<float>();
  ParallelBlocks(context.pool, p.x.shape[0], RowsPerTask(dim),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = begin; t < end; ++t) {
                     HWY_DYNAMIC_DISPATCH(NormGradRow)
                     (At(p.dout, t), At(p.x, t), weight, inv_rms[t],
                      p.accumulate_dx, At(p.dx, t), dim);
                   }
                 });
  if (!p.dweight.empty()) WeightGradient(p, context);
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
