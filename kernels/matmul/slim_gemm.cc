// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/slim_gemm.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul/slim_gemm.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/cpu/micro_gemm-inl.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Rows of a and b whose products are in registers together: 32 of them with
// AVX-512, else 16.
constexpr int kDotRows = HWY_TARGET == HWY_AVX3 ? 6 : 2;
constexpr int kDotCols = 4;
// Summed at a time, so that these rows stay in the first cache.
constexpr int64_t kDotChunk = 512;
// A register block's columns.
constexpr int64_t kBlockColumns = 64;
// What OuterGemm copies of the large operand into the first cache: its rows are
// often powers of two apart, and would share a few of the cache's sets.
constexpr int64_t kOuterRows = 32;
constexpr int64_t kOuterColumns = 256;
constexpr int64_t kLineFloats = 16;

// Asks memory for a block of rows, some lines at a time, while the processor
// multiplies what came before.
class Ahead {
 public:
  // In `steps` steps; no more than `rows` rows of `cols`.
  Ahead(const float* from, int64_t stride, int64_t rows, int64_t cols,
        int64_t steps)
      : row_(from), stride_(stride), rows_(rows), cols_(cols) {
    const int64_t lines = rows * ((cols + kLineFloats - 1) / kLineFloats);
    lines_a_step_ = (lines + steps - 1) / steps;
  }
  void Step() {
    for (int64_t i = 0; i < lines_a_step_ && rows_ > 0; ++i) {
      hwy::Prefetch(row_ + column_);
      column_ += kLineFloats;
      if (column_ < cols_) continue;
      column_ = 0;
      row_ += stride_;
      --rows_;
    }
  }

 private:
  const float* row_;
  int64_t stride_, rows_, cols_;
  int64_t lines_a_step_ = 0;
  int64_t column_ = 0;
};

// to[c] = the sum of the lanes of x[c].
#if HWY_TARGET == HWY_SCALAR
void SumLanes(const F32Vec (&x)[kDotCols], float* to) {
  for (int c = 0; c < kDotCols; ++c) to[c] = hn::GetLane(x[c]);
}
#else
HWY_INLINE void SumLanes(const F32Vec (&x)[kDotCols], float* to) {
  const F32Tag d;
  const hn::Repartition<double, F32Tag> pairs;
  // In each block of four lanes: two sums of x[0] and x[1], then of x[2], x[3].
  const F32Vec low = hn::Add(hn::InterleaveLower(d, x[0], x[1]),
                             hn::InterleaveUpper(d, x[0], x[1]));
  const F32Vec high = hn::Add(hn::InterleaveLower(d, x[2], x[3]),
                              hn::InterleaveUpper(d, x[2], x[3]));
  const auto l = hn::BitCast(pairs, low);
  const auto h = hn::BitCast(pairs, high);
  const F32Vec sums = hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, l, h)),
                              hn::BitCast(d, hn::InterleaveUpper(pairs, l, h)));
  HWY_ALIGN float blocks[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(sums, d, blocks);
  const hn::CappedTag<float, kDotCols> quad;
  auto total = hn::Load(quad, blocks);
  for (size_t i = kDotCols; i < hn::Lanes(d); i += kDotCols) {
    total = hn::Add(total, hn::Load(quad, blocks + i));
  }
  hn::StoreU(total, quad, to);
}
#endif

// The kRows x kDotCols sums over n elements of the rows.
template <int kRows>
HWY_INLINE void DotBlock(const float* a, int64_t a_row,
                         const float* const (&b)[kDotCols], int64_t n,
                         float (&sums)[kDotRows][kDotCols]) {
  const F32Tag d;
  F32Vec acc[kRows][kDotCols];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kDotCols; ++c) acc[r][c] = hn::Zero(d);
  }
  ForEachVector(n, [&](int64_t i, auto lanes) HWY_ATTR {
    F32Vec y[kDotCols];
#pragma GCC unroll 8
    for (int c = 0; c < kDotCols; ++c) y[c] = lanes.Load(d, b[c] + i);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32Vec x = lanes.Load(d, a + r * a_row + i);
#pragma GCC unroll 8
      for (int c = 0; c < kDotCols; ++c) {
        acc[r][c] = hn::MulAdd(x, y[c], acc[r][c]);
      }
    }
  });
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) SumLanes(acc[r], sums[r]);
}

// What DotRows reads of a after elements [k, k + kDotChunk) of the rows of `t`:
// the next elements, or else those of the rows that follow.
Ahead AheadOfDot(const SlimTile& t, int64_t k, int64_t rows_left) {
  const int64_t steps = (t.n + kDotCols - 1) / kDotCols;
  const int64_t next = k + kDotChunk;
  if (next < t.k) {
    return Ahead(t.a + next, t.a_row, t.m, std::min(kDotChunk, t.k - next),
                 steps);
  }
  return Ahead(t.a + t.m * t.a_row, t.a_row,
               std::min<int64_t>(kDotRows, rows_left), std::min(kDotChunk, t.k),
               steps);
}

// totals[row][column] (+)= the products of kRows rows of a with all of b over n
// elements of k.
template <int kRows>
void DotRows(const SlimTile& t, int64_t k, int64_t n, Ahead ahead,
             float (&totals)[kDotRows][kSlim]) {
  for (int64_t j = 0; j < t.n; j += kDotCols) {
    // The last row of b again for those beyond it, whose sums are dropped.
    const float* b[kDotCols];
    for (int64_t c = 0; c < kDotCols; ++c) {
      b[c] = t.b + std::min(j + c, t.n - 1) * t.b_row + k;
    }
    ahead.Step();
    float sums[kDotRows][kDotCols];
    DotBlock<kRows>(t.a + k, t.a_row, b, n, sums);
    for (int r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < std::min<int64_t>(kDotCols, t.n - j); ++c) {
        totals[r][j + c] = k == 0 ? sums[r][c] : totals[r][j + c] + sums[r][c];
      }
    }
  }
}

void Store(const float* from, float alpha, bool accumulate, float* to,
           int64_t n) {
  const F32Tag d;
  const F32Vec factor = hn::Set(d, alpha);
  ForEachVector(n, [&](int64_t i, auto lanes) HWY_ATTR {
    const F32Vec x = lanes.Load(d, from + i);
    const F32Vec y = accumulate ? hn::MulAdd(factor, x, lanes.Load(d, to + i))
                                : hn::Mul(factor, x);
    lanes.Store(y, d, to + i);
  });
}

template <int kRows>
void DotStripe(const SlimTile& t, int64_t rows_left) {
  float totals[kDotRows][kSlim];
  for (int64_t k = 0; k < t.k; k += kDotChunk) {
    DotRows<kRows>(t, k, std::min(kDotChunk, t.k - k),
                   AheadOfDot(t, k, rows_left), totals);
  }
  for (int r = 0; r < kRows; ++r) {
    Store(totals[r], t.alpha, t.accumulate, t.out + r * t.out_row, t.n);
  }
}

template <int kRows>
void DotAny(const SlimTile& t, int64_t rows_left) {
  if (t.m == kRows) {
    DotStripe<kRows>(t, rows_left);
  } else if constexpr (kRows > 1) {
    DotAny<kRows - 1>(t, rows_left);
  }
}

void RunDotGemm(SlimTile t) {
  for (int64_t left = t.m; left > 0; left -= t.m) {
    t.m = std::min<int64_t>(kDotRows, left);
    DotAny<kDotRows>(t, left - t.m);
    t.a += t.m * t.a_row;
    t.out += t.m * t.out_row;
  }
}

// MicroGemm for any number of columns.
HWY_INLINE void AnyColumns(GemmTile<float> t, int64_t rows, int64_t cols) {
  const auto part = [&](auto d) HWY_ATTR {
    const int64_t whole = cols - cols % static_cast<int64_t>(hn::Lanes(d));
    if (whole == 0) return;
    MicroGemmOf(d, t, rows, whole);
    t.b += whole;
    t.out += whole;
    cols -= whole;
  };
  part(F32Tag());
  part(hn::CappedTag<float, 4>());
  part(hn::CappedTag<float, 1>());
}

void RunChainGemm(const SlimTile& t) {
  HWY_ALIGN float sums[kBlockRows * kBlockColumns];
  for (int64_t i = 0; i < t.m; i += kBlockRows) {
    const int64_t rows = std::min<int64_t>(kBlockRows, t.m - i);
    for (int64_t j = 0; j < t.n; j += kBlockColumns) {
      const int64_t cols = std::min(kBlockColumns, t.n - j);
      float* out = t.out + i * t.out_row + j;
      if (t.accumulate) Ahead(out, t.out_row, rows, cols, 1).Step();
      AnyColumns({t.a + i * t.a_row, t.a_row, 1, t.b + j, t.b_row, sums,
                  kBlockColumns, t.k, false},
                 rows, cols);
      for (int64_t r = 0; r < rows; ++r) {
        Store(sums + r * kBlockColumns, t.alpha, t.accumulate,
              out + r * t.out_row, cols);
      }
    }
  }
}

// sums[m][cols] of `rows` rows of k from `k` on and columns from `column` on,
// onto what they were unless `first`.
void OuterBlock(const SlimTile& t, int64_t k, int64_t rows, int64_t column,
                int64_t cols, bool first, float* sums) {
  HWY_ALIGN float copy[kOuterRows * kOuterColumns];
  const float* b = t.b + k * t.b_row + column;
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(copy + i * kOuterColumns, b + i * t.b_row,
                cols * sizeof(float));
  }
  const int64_t steps = ((t.m + kBlockRows - 1) / kBlockRows) *
                        ((cols + kBlockColumns - 1) / kBlockColumns);
  Ahead ahead(b + rows * t.b_row, t.b_row, std::min(kOuterRows, t.k - k - rows),
              cols, steps);
  for (int64_t i = 0; i < t.m; i += kBlockRows) {
    for (int64_t j = 0; j < cols; j += kBlockColumns) {
      ahead.Step();
      AnyColumns({t.a + k * t.a_row + i, 1, t.a_row, copy + j, kOuterColumns,
                  sums + i * t.n + column + j, t.n, rows, !first},
                 std::min<int64_t>(kBlockRows, t.m - i),
                 std::min(kBlockColumns, cols - j));
    }
  }
}

void RunOuterGemm(const SlimTile& t, int64_t chunk, float* sums,
                  float* scratch) {
  for (int64_t begin = 0; begin < t.k; begin += chunk) {
    const int64_t end = std::min(t.k, begin + chunk);
    float* to = begin == 0 ? sums : scratch;
    for (int64_t j = 0; j < t.n; j += kOuterColumns) {
      for (int64_t k = begin; k < end; k += kOuterRows) {
        OuterBlock(t, k, std::min(kOuterRows, end - k), j,
                   std::min(kOuterColumns, t.n - j), k == begin, to);
      }
    }
    if (begin > 0) Store(scratch, 1.0f, true, sums, t.m * t.n);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(RunDotGemm);
HWY_EXPORT(RunChainGemm);
HWY_EXPORT(RunOuterGemm);
HWY_EXPORT(Store);

void DotGemm(const SlimTile& tile) { HWY_DYNAMIC_DISPATCH(RunDotGemm)(tile); }

void ChainGemm(const SlimTile& tile) {
  HWY_DYNAMIC_DISPATCH(RunChainGemm)(tile);
}

void OuterGemm(const SlimTile& tile, int64_t chunk, float* sums,
               float* scratch) {
  HWY_DYNAMIC_DISPATCH(RunOuterGemm)(tile, chunk, sums, scratch);
}

void StoreSums(const float* from, float alpha, bool accumulate, float* to,
               int64_t n) {
  HWY_DYNAMIC_DISPATCH(Store)(from, alpha, accumulate, to, n);
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
