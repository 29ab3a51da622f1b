// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope/rope_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Rotates the pairs (first[i], second[i]) by the angle (cos[i], sign * sin[i]).
void RotateRow(float* first, float* second, const float* cos, const float* sin,
               float sign, int64_t half) {
  const F32Tag d;
  const F32Vec s = hn::Set(d, sign);
  ForEachVector(half, [&](int64_t i, auto lanes) {
    const F32Vec a = lanes.Load(d, first + i);
    const F32Vec b = lanes.Load(d, second + i);
    const F32Vec c = lanes.Load(d, cos + i);
    const F32Vec w = hn::Mul(lanes.Load(d, sin + i), s);
    lanes.Store(hn::NegMulAdd(b, w, hn::Mul(a, c)), d, first + i);
    lanes.Store(hn::MulAdd(a, w, hn::Mul(b, c)), d, second + i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(RotateRow);

void Rope(const RopeParams& p, CpuContext& context) {
  const int64_t heads = p.x.shape[1];
  const int64_t half = p.x.shape[2] / 2;
  const float sign = p.inverse ? -1.0f : 1.0f;
  ParallelBlocks(context.pool, p.x.shape[0], RowsPerTask(heads * half * 2),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = begin; t < end; ++t) {
                     const int32_t row = p.positions.as<int32_t>()[t];
                     for (int64_t h = 0; h < heads; ++h) {
                       float* x = At(p.x, t, h);
                       HWY_DYNAMIC_DISPATCH(RotateRow)
                       (x, x + half, At(p.cos, row), At(p.sin, row), sign,
                        half);
                     }
                   }
                 });
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
