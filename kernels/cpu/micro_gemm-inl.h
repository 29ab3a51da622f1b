// Register-blocked matrix product of small f32 tiles, the inner loop of
// attention and of the portable GEMM.
//
//   out[r][c] (+)= sum over k of a[r * a_row + k * a_step] * b[k * b_row + c]
//
// Each output element is one chain of fused multiply-adds in ascending k from
// zero or from what `out` held, so its bits do not depend on the tile it is
// computed in. Included once per target.
//
// SPDX-License-Identifier: Apache-2.0
#if defined(SINKLORA_KERNELS_CPU_MICRO_GEMM_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SINKLORA_KERNELS_CPU_MICRO_GEMM_INL_H_
#undef SINKLORA_KERNELS_CPU_MICRO_GEMM_INL_H_
#else
#define SINKLORA_KERNELS_CPU_MICRO_GEMM_INL_H_
#endif

#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {

// Strided operands of MicroGemm; b and out have unit column stride. B is float
// or bf16 bits.
template <typename B>
struct GemmTile {
  const float* a;
  int64_t a_row, a_step;
  const B* b;
  int64_t b_row;
  float* out;
  int64_t out_row;
  int64_t depth;  // extent of k
  bool accumulate;
};

// kRows x (kVectors * lanes) outputs, all in registers.
template <int kRows, int kVectors, class D, typename B>
HWY_INLINE void GemmBlock(D d, const GemmTile<B>& t) {
  using V = hn::Vec<D>;
  const int64_t lanes = hn::Lanes(d);
  V acc[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      acc[r][v] = t.accumulate ? hn::LoadU(d, t.out + r * t.out_row + v * lanes)
                               : hn::Zero(d);
    }
  }
  const float* a = t.a;
  const B* b = t.b;
  for (int64_t k = 0; k < t.depth; ++k, a += t.a_step, b += t.b_row) {
    V row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = LoadFloat(d, b + v * lanes);
    for (int r = 0; r < kRows; ++r) {
      const V x = hn::Set(d, a[r * t.a_row]);
      for (int v = 0; v < kVectors; ++v) {
        acc[r][v] = hn::MulAdd(x, row[v], acc[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(acc[r][v], d, t.out + r * t.out_row + v * lanes);
    }
  }
}

// Accumulators must fit the registers: 32 of them with AVX-512, else 16.
inline constexpr int kBlockVectors = HWY_TARGET == HWY_AVX3 ? 4 : 2;
inline constexpr int kBlockRows = 6;

// `cols` as vectors of d; REQUIRES: cols is a multiple of the lanes of d.
template <int kRows, class D, typename B>
HWY_INLINE void GemmRows(D d, GemmTile<B> t, int64_t cols) {
  const int64_t lanes = hn::Lanes(d);
  int64_t left = cols / lanes;
  const auto advance = [&](int vectors) HWY_ATTR {
    t.b += vectors * lanes;
    t.out += vectors * lanes;
    left -= vectors;
  };
  while (left >= kBlockVectors) {
    GemmBlock<kRows, kBlockVectors>(d, t);
    advance(kBlockVectors);
  }
  while (left >= 2) {
    GemmBlock<kRows, 2>(d, t);
    advance(2);
  }
  if (left == 1) GemmBlock<kRows, 1>(d, t);
}

// rows x cols outputs, in vectors of d alone. REQUIRES: cols is a multiple of
// their lanes.
template <class D, typename B>
HWY_INLINE void MicroGemmOf(D d, GemmTile<B> t, int64_t rows, int64_t cols) {
  const auto advance = [&](int done) {
    t.a += done * t.a_row;
    t.out += done * t.out_row;
    rows -= done;
  };
  while (rows >= kBlockRows) {
    GemmRows<kBlockRows>(d, t, cols);
    advance(kBlockRows);
  }
  if (rows >= 4) {
    GemmRows<4>(d, t, cols);
    advance(4);
  }
  if (rows >= 2) {
    GemmRows<2>(d, t, cols);
    advance(2);
  }
  if (rows >= 1) GemmRows<1>(d, t, cols);
}

// rows x cols outputs, in whole vectors and the rest in those of d. REQUIRES:
// cols is a multiple of the lanes of d.
template <class D, typename B>
HWY_INLINE void MicroGemm(D d, GemmTile<B> t, int64_t rows, int64_t cols) {
  if constexpr (!std::is_same_v<D, F32Tag>) {
    const F32Tag full;
    const int64_t whole = cols - cols % static_cast<int64_t>(hn::Lanes(full));
    if (whole > 0) MicroGemmOf(full, t, rows, whole);
    t.b += whole;
    t.out += whole;
    cols -= whole;
  }
  if (cols > 0) MicroGemmOf(d, t, rows, cols);
}

}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // SINKLORA_KERNELS_CPU_MICRO_GEMM_INL_H_
