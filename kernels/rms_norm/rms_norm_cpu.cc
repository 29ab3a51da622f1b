// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_sums.h"
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
// And where dweight is given: dweight += dout * y.
void NormGradRow(const float* dout, const float* x, const float* weight,
                 float inv_rms, bool accumulate, float* dx, float* dweight,
                 int64_t n) {
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
    const F32Vec g = lanes.Load(d, dout + i);
    const F32Vec wg = hn::Mul(lanes.Load(d, weight + i), g);
    const F32Vec y = hn::Mul(lanes.Load(d, x + i), r);
    if (dweight != nullptr) {
      lanes.Store(hn::MulAdd(g, y, lanes.Load(d, dweight + i)), d, dweight + i);
    }
    F32Vec gradient = hn::Mul(r, hn::NegMulAdd(y, mean, wg));
    if (accumulate) gradient = hn::Add(gradient, lanes.Load(d, dx + i));
    lanes.Store(gradient, d, dx + i);
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

namespace {

// Tokens whose part of dweight is summed apart: at least so many that these
// sums are little beside the tokens.
constexpr int64_t kLeastTokens = 32;

// The weight as f32, converted into `copy` where stored as bf16.
const float* WeightF32(const ConstTensorView& weight, float* copy) {
  if (weight.dtype == DType::kF32) return weight.as<float>();
  ConvertToF32(weight.as<bf16_t>(), copy, weight.shape[0]);
  return copy;
}

}  // namespace

void RmsNormForward(const RmsNormForwardParams& p, CpuContext& context) {
  const int64_t dim = p.x.shape[1];
  const float* weight =
      WeightF32(p.weight, context.shared_scratch.Reserve<float>(dim));
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
  const int64_t tokens = p.x.shape[0];
  const int64_t dim = p.x.shape[1];
  const bool wants_dweight = !p.dweight.empty() && tokens * dim > 0;
  const int64_t rows = std::max(kLeastTokens, RowsPerTask(dim));
  const int64_t blocks = wants_dweight ? (tokens + rows - 1) / rows : 0;
  float* memory = context.shared_scratch.Reserve<float>((blocks + 1) * dim);
  const float* weight = WeightF32(p.weight, memory);
  float* partial = memory + dim;  // [blocks, dim] of dweight
  const float* inv_rms = p.inv_rms.as<float>();
  ParallelBlocks(
      context.pool, tokens, rows, [&](int64_t begin, int64_t end, int) {
        float* dweight = wants_dweight ? partial + begin / rows * dim : nullptr;
        if (wants_dweight) std::memset(dweight, 0, dim * sizeof(float));
        for (int64_t t = begin; t < end; ++t) {
          HWY_DYNAMIC_DISPATCH(NormGradRow)
          (At(p.dout, t), At(p.x, t), weight, inv_rms[t], p.accumulate_dx,
           At(p.dx, t), dweight, dim);
        }
      });
  if (!wants_dweight) return;
  AddPartialSums(partial, blocks, p.dweight.as<float>(), dim, context.pool);
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
