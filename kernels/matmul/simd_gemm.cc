// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/simd_gemm.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul/simd_gemm.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/cpu/micro_gemm-inl.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// A panel of b: all of k, this many columns (a multiple of every vector
// length).
constexpr int64_t kPanelColumns = 64;
constexpr int64_t kRowBlock = 48;

// Columns [begin, begin + cols) of op(b) as panel[k][kPanelColumns], zeros
// beyond.
void PackPanel(const GemmShape& s, const float* b, int64_t begin, int64_t cols,
               float* panel) {
  if (cols < kPanelColumns) {
    std::memset(panel, 0, s.k * kPanelColumns * sizeof(float));
  }
  for (int64_t l = 0; l < s.k && !s.transpose_b; ++l) {
    std::memcpy(panel + l * kPanelColumns, b + l * s.n + begin,
                cols * sizeof(float));
  }
  for (int64_t j = 0; j < cols && s.transpose_b; ++j) {
    const float* row = b + (begin + j) * s.k;
    for (int64_t l = 0; l < s.k; ++l) panel[l * kPanelColumns + j] = row[l];
  }
}

// out = alpha * sums (+ out).
void StoreRow(const GemmShape& s, const float* sums, float* out, int64_t n) {
  const F32Tag d;
  const F32Vec alpha = hn::Set(d, s.alpha);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    F32Vec y = hn::Mul(alpha, lanes.Load(d, sums + i));
    if (s.accumulate) y = hn::Add(y, lanes.Load(d, out + i));
    lanes.Store(y, d, out + i);
  });
}

void GemmPanel(const GemmShape& s, const float* a, const float* panel,
               int64_t begin, int64_t cols, float* sums, float* out) {
  for (int64_t i = 0; i < s.m; i += kRowBlock) {
    const int64_t rows = std::min(kRowBlock, s.m - i);
    const GemmTile<float> tile{a + i * s.k,   s.k,           1,
                               panel,         kPanelColumns, sums,
                               kPanelColumns, s.k,           false};
    MicroGemm(F32Tag(), tile, rows, kPanelColumns);
    for (int64_t r = 0; r < rows; ++r) {
      StoreRow(s, sums + r * kPanelColumns, out + (i + r) * s.n + begin, cols);
    }
  }
}

void RunSimdGemm(const GemmShape& s, const float* a, const float* b, float* out,
                 float* scratch) {
  float* sums = scratch;
  float* panel = scratch + kRowBlock * kPanelColumns;
  for (int64_t begin = 0; begin < s.n; begin += kPanelColumns) {
    const int64_t cols = std::min(kPanelColumns, s.n - begin);
    PackPanel(s, b, begin, cols, panel);
    GemmPanel(s, a, panel, begin, cols, sums, out);
  }
}

int64_t ScratchFloats(int64_t k) { return (kRowBlock + k) * kPanelColumns; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(RunSimdGemm);
HWY_EXPORT(ScratchFloats);

void SimdGemm(const GemmShape& shape, const float* a, const float* b,
              float* out, Scratch& scratch) {
  float* memory =
      scratch.Reserve<float>(HWY_DYNAMIC_DISPATCH(ScratchFloats)(shape.k));
  HWY_DYNAMIC_DISPATCH(RunSimdGemm)(shape, a, b, out, memory);
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
