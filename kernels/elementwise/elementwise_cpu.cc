// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise/elementwise_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Of x[0, n), which is zero outside of the given rows, the first row beginning
// at x - skipped. Zeros add nothing, so what is left out changes no bit.
double SumSquaresBlock(const float* x, int64_t n, int64_t skipped,
                       const int32_t* rows, int64_t num_rows, int64_t columns) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const int64_t lanes = hn::Lanes(dd);
  const int64_t step = 2 * lanes;
  const int64_t whole = n / step * step;
  auto even = hn::Zero(dd);
  auto odd = hn::Zero(dd);
  int64_t i = 0;
  for (int64_t r = 0; r < num_rows; ++r) {
    const int64_t begin = rows[r] * columns - skipped;
    const int64_t end = std::min(begin + columns, whole);
    if (begin > i) i = begin / step * step;
    for (; i < end; i += step) {
      const auto a = hn::PromoteTo(dd, hn::LoadU(df, x + i));
      const auto b = hn::PromoteTo(dd, hn::LoadU(df, x + i + lanes));
      even = hn::MulAdd(a, a, even);
      odd = hn::MulAdd(b, b, odd);
    }
  }
  double sum = Sum(dd, hn::Add(even, odd));
  for (i = whole; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

void ScaleBlock(float* x, float factor, int64_t n) {
  const F32Tag d;
  ForEachVector(n, [&](int64_t i, auto lanes) {
    lanes.Store(hn::Mul(lanes.Load(d, x + i), hn::Set(d, factor)), d, x + i);
  });
}

void MulBlock(const float* factors, float* x, int64_t n) {
  const F32Tag d;
  ForEachVector(n, [&](int64_t i, auto lanes) {
    lanes.Store(hn::Mul(lanes.Load(d, x + i), lanes.Load(d, factors + i)), d,
                x + i);
  });
}

void AddBlock(const float* x, float alpha, float* out, int64_t n) {
  const F32Tag d;
  ForEachVector(n, [&](int64_t i, auto lanes) {
    lanes.Store(hn::MulAdd(hn::Set(d, alpha), lanes.Load(d, x + i),
                           lanes.Load(d, out + i)),
                d, out + i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(SumSquaresBlock);
HWY_EXPORT(ScaleBlock);
HWY_EXPORT(MulBlock);
HWY_EXPORT(AddBlock);

namespace {

// The sum over elements [begin, end), of the given rows alone where they are.
double SumSquaresOf(const SumSquaresParams& p, int64_t begin, int64_t end) {
  const float* x = p.x.as<float>() + begin;
  const int64_t n = end - begin;
  if (p.rows.empty()) {
    const int32_t all = 0;
    return HWY_DYNAMIC_DISPATCH(SumSquaresBlock)(x, n, 0, &all, 1, n);
  }
  const int64_t columns = p.x.shape[1];
  const int32_t* rows = p.rows.as<int32_t>();
  const int32_t* last = rows + p.rows.shape[0];
  const int32_t* from = std::lower_bound(rows, last, begin / columns);
  const int32_t* to = std::lower_bound(from, last, (end - 1) / columns + 1);
  return HWY_DYNAMIC_DISPATCH(SumSquaresBlock)(x, n, begin, from, to - from,
                                               columns);
}

}  // namespace

void SumSquares(const SumSquaresParams& p, CpuContext& context) {
  const int64_t n = p.x.num_elements();
  const int64_t blocks = (n + kTaskElements - 1) / kTaskElements;
  double* partial = context.shared_scratch.Reserve<double>(blocks);
  ParallelBlocks(context.pool, n, kTaskElements,
                 [&](int64_t begin, int64_t end, int) {
                   partial[begin / kTaskElements] = SumSquaresOf(p, begin, end);
                 });
  double sum = 0.0;
  for (int64_t i = 0; i < blocks; ++i) sum += partial[i];
  *p.result = sum;
}

void ZeroRows(const ZeroRowsParams& p, CpuContext& context) {
  const int64_t columns = p.x.shape[1];
  ParallelBlocks(context.pool, p.rows.shape[0], RowsPerTask(columns),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t i = begin; i < end; ++i) {
                     std::fill_n(At(p.x, p.rows.as<int32_t>()[i]), columns,
                                 0.0f);
                   }
                 });
}

void Scale(const ScaleParams& p, CpuContext& context) {
  ParallelBlocks(context.pool, p.x.num_elements(), kTaskElements,
                 [&](int64_t begin, int64_t end, int) {
                   HWY_DYNAMIC_DISPATCH(ScaleBlock)
                   (p.x.as<float>() + begin, p.factor, end - begin);
                 });
}

void ScaleColumns(const ScaleColumnsParams& p, CpuContext& context) {
  const int64_t columns = p.x.shape[1];
  ParallelBlocks(context.pool, p.x.shape[0], RowsPerTask(columns),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t i = begin; i < end; ++i) {
                     HWY_DYNAMIC_DISPATCH(MulBlock)
                     (p.factors.as<float>(), At(p.x, i), columns);
                   }
                 });
}

void Add(const AddParams& p, CpuContext& context) {
  ParallelBlocks(context.pool, p.x.num_elements(), kTaskElements,
                 [&](int64_t begin, int64_t end, int) {
                   HWY_DYNAMIC_DISPATCH(AddBlock)
                   (p.x.as<float>() + begin, p.alpha, p.out.as<float>() + begin,
                    end - begin);
                 });
}

void Cast(const CastParams& p, CpuContext& context) {
  if (p.x.data == p.out.data) return;  // a copy onto itself
  ParallelBlocks(context.pool, p.x.num_elements(), kTaskElements,
                 [&](int64_t begin, int64_t end, int) {
                   CopyElements(p.x.as<char>() + begin * SizeOf(p.x.dtype),
                                p.x.dtype,
                                p.out.as<char>() + begin * SizeOf(p.out.dtype),
                                p.out.dtype, end - begin);
                 });
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
