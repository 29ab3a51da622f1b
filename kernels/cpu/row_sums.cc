// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/row_sums.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/row_sums.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

void AddOneRow(const float* x, float* sum, int64_t n) {
  const F32Tag d;
  ForEachVector(n, [&](int64_t i, auto lanes) HWY_ATTR {
    lanes.Store(hn::Add(lanes.Load(d, sum + i), lanes.Load(d, x + i)), d,
                sum + i);
  });
}

// Four rows for each time that the sums are read and written.
void AddManyRows(const float* x, int64_t stride, int64_t rows, float* sum,
                 int64_t n) {
  const F32Tag d;
  for (; rows >= 4; rows -= 4, x += 4 * stride) {
    ForEachVector(n, [&](int64_t i, auto lanes) HWY_ATTR {
      F32Vec y = lanes.Load(d, sum + i);
      for (int r = 0; r < 4; ++r) {
        y = hn::Add(y, lanes.Load(d, x + r * stride + i));
      }
      lanes.Store(y, d, sum + i);
    });
  }
  for (; rows > 0; --rows, x += stride) AddOneRow(x, sum, n);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(AddOneRow);
HWY_EXPORT(AddManyRows);

void AddRow(const float* x, float* sum, int64_t n) {
  HWY_DYNAMIC_DISPATCH(AddOneRow)(x, sum, n);
}

void AddRows(const float* x, int64_t stride, int64_t rows, float* sum,
             int64_t n) {
  HWY_DYNAMIC_DISPATCH(AddManyRows)(x, stride, rows, sum, n);
}

void AddPartialSums(const float* x, int64_t rows, float* sum, int64_t n,
                    ThreadPool& pool) {
  constexpr int64_t kColumns = 512;
  if (rows == 0) return;
  ParallelBlocks(pool, n, kColumns, [&](int64_t begin, int64_t end, int) {
    AddRows(x + begin, n, rows, sum + begin, end - begin);
  });
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
