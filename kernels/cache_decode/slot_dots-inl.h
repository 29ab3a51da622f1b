// Dot products of a few queries with many rows, each row read once and no row
// rearranged: lanes run along the row, four rows are summed at a time. Included
// once per target.
//
// SPDX-License-Identifier: Apache-2.0
#if defined(SINKLORA_KERNELS_CACHE_DECODE_SLOT_DOTS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SINKLORA_KERNELS_CACHE_DECODE_SLOT_DOTS_INL_H_
#undef SINKLORA_KERNELS_CACHE_DECODE_SLOT_DOTS_INL_H_
#else
#define SINKLORA_KERNELS_CACHE_DECODE_SLOT_DOTS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
// Four sums of all lanes, of a, b, c, e in this order.
template <class D, class V = hn::Vec<D>>
HWY_INLINE auto SumBlocks(D d, V v) {
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> half;
    return SumBlocks(half,
                     hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    (void)d;
    return v;
  }
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE auto SumFour(D d, V a, V b, V c, V e) {
  const hn::RepartitionToWide<D> dw;
  const auto ab = hn::BitCast(
      dw, hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
  const auto ce = hn::BitCast(
      dw, hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e)));
  return SumBlocks(d, hn::Add(hn::BitCast(d, hn::InterleaveLower(dw, ab, ce)),
                              hn::BitCast(d, hn::InterleaveUpper(dw, ab, ce))));
}
#endif

// out[q * out_stride + r] = query q . row r, for four rows.
template <int kQueries, class D, typename T>
HWY_INLINE void DotFourRows(D d, const float* queries, int64_t head_dim,
                            const T* const rows[4], float* out,
                            int64_t out_stride) {
  using V = hn::Vec<D>;
  V sums[kQueries][4];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) sums[q][r] = hn::Zero(d);
  }
  for (int64_t i = 0; i < head_dim; i += hn::Lanes(d)) {
    V row[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) row[r] = LoadFloat(d, rows[r] + i);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) {
      const V x = hn::LoadU(d, queries + q * head_dim + i);
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r)
        sums[q][r] = hn::MulAdd(x, row[r], sums[q][r]);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
    float* to = out + q * out_stride;
#if HWY_TARGET == HWY_SCALAR
    for (int r = 0; r < 4; ++r) to[r] = hn::GetLane(sums[q][r]);
#else
    hn::StoreU(SumFour(d, sums[q][0], sums[q][1], sums[q][2], sums[q][3]),
               hn::CappedTag<float, 4>(), to);
#endif
  }
}

// Memory is asked for far ahead into the second cache, and once more, nearer,
// into the first: left to the processor's own prefetching it comes at two
// thirds of the speed.
inline constexpr int64_t kFarBytes = 8192;
inline constexpr int64_t kNearBytes = 1536;
HWY_INLINE void AskAhead(const void* from, int64_t bytes) {
  const char* at = static_cast<const char*>(from);
  for (int64_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(at + kFarBytes + i, 0, 2);
    __builtin_prefetch(at + kNearBytes + i, 0, 3);
  }
}

// Accumulators must fit the registers: 32 of them with AVX-512, else 16.
inline constexpr int kDotQueries = HWY_TARGET == HWY_AVX3 ? 4 : 2;

// out[q * out_stride + r] = query q . row r of `count` rows of `head_dim`
// elements, a multiple of the lanes of d. `queries` is [num_queries][head_dim].
// Up to three floats after the last are written to as well.
template <class D, typename T>
HWY_INLINE void DotSlots(D d, const float* queries, int64_t num_queries,
                         const T* rows, int64_t row_stride, int64_t count,
                         int64_t head_dim, float* out, int64_t out_stride) {
  for (int64_t r = 0; r < count; r += 4) {
    const auto row = [&](int64_t i) {
      return rows + std::min(r + i, count - 1) * row_stride;
    };
    const T* const four[4] = {row(0), row(1), row(2), row(3)};
    AskAhead(four[0], 4 * row_stride * static_cast<int64_t>(sizeof(T)));
    int64_t q = 0;
    for (; q + kDotQueries <= num_queries; q += kDotQueries) {
      DotFourRows<kDotQueries>(d, queries + q * head_dim, head_dim, four,
                               out + q * out_stride + r, out_stride);
    }
    for (; q < num_queries; ++q) {
      DotFourRows<1>(d, queries + q * head_dim, head_dim, four,
                     out + q * out_stride + r, out_stride);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // SINKLORA_KERNELS_CACHE_DECODE_SLOT_DOTS_INL_H_
