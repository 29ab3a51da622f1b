// Helpers of the Highway kernels: full and partial vector access, exp, sums.
// Included once per target, inside a foreach_target translation unit.
//
// SPDX-License-Identifier: Apache-2.0
#if defined(SINKLORA_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SINKLORA_KERNELS_CPU_SIMD_INL_H_
#undef SINKLORA_KERNELS_CPU_SIMD_INL_H_
#else
#define SINKLORA_KERNELS_CPU_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32Tag = hn::ScalableTag<float>;
using F32Vec = hn::Vec<F32Tag>;

// Access to all lanes of a vector.
struct FullLanes {
  HWY_INLINE F32Vec Load(F32Tag d, const float* p) const {
    return hn::LoadU(d, p);
  }
  HWY_INLINE void Store(F32Vec v, F32Tag d, float* p) const {
    hn::StoreU(v, d, p);
  }
};

// Access to the first `n` lanes; the others read as 0 and are not written.
struct FirstLanes {
  size_t n;
  HWY_INLINE F32Vec Load(F32Tag d, const float* p) const {
    return hn::MaskedLoad(hn::FirstN(d, n), d, p);
  }
  HWY_INLINE void Store(F32Vec v, F32Tag d, float* p) const {
    hn::BlendedStore(v, hn::FirstN(d, n), d, p);
  }
};

// Calls body(index, lanes) for each vector of [0, n), the last one partial.
template <class Body>
HWY_INLINE void ForEachVector(int64_t n, Body body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(F32Tag()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(i, FullLanes());
  if (i < n) body(i, FirstLanes{static_cast<size_t>(n - i)});
}

// exp(x) within 2 ulp for x <= 88; results below the normal range are 0, NaN
// stays NaN (hwy's own Exp returns 0).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  const auto k = hn::NearestInt(hn::Mul(x, hn::Set(d, 1.44269504088896341f)));
  const V kf = hn::ConvertTo(d, k);
  // ln 2 in two parts keeps the reduced argument exact to the last bit.
  V r = hn::NegMulAdd(kf, hn::Set(d, 0.693145751953125f), x);
  r = hn::NegMulAdd(kf, hn::Set(d, 1.428606765330187045e-6f), r);
  V p = hn::Set(d, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::MulAdd(p, hn::Mul(r, r), hn::Add(r, hn::Set(d, 1.0f)));
  const V scale =
      hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(k, hn::Set(di, 127))));
  const auto underflow = hn::Lt(x, hn::Set(d, -87.0f));
  return hn::IfThenElse(underflow, hn::Zero(d), hn::Mul(p, scale));
}

// Sum of all lanes.
template <class D, class V = hn::Vec<D>>
HWY_INLINE hn::TFromD<D> Sum(D d, V v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}

// bf16 bits to f32, exactly.
template <class D>
HWY_INLINE hn::Vec<D> LoadBf16(D d, const uint16_t* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  return hn::BitCast(d,
                     hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, p))));
}

// Loads either storage type.
template <class D>
HWY_INLINE hn::Vec<D> LoadFloat(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> LoadFloat(D d, const uint16_t* p) {
  return LoadBf16(d, p);
}

// Whole numbers, exactly.
template <class D>
HWY_INLINE hn::Vec<D> LoadFloat(D d, const int8_t* p) {
  const hn::Rebind<int8_t, D> d8;
  const hn::RebindToSigned<D> di;
  return hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, p)));
}

// f32 to bf16 bits, to nearest even, NaN stays NaN. (hwy 1.0.3's own demotion
// truncates.)
template <class D>
HWY_INLINE void StoreBf16(hn::Vec<D> v, D /*d*/, uint16_t* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const hn::RebindToSigned<D> di32;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7fffu)));
  const auto quiet = hn::Or(bits, hn::Set(d32, 0x00400000u));
  const auto is_nan = hn::RebindMask(d32, hn::IsNaN(v));
  const auto chosen = hn::IfThenElse(is_nan, quiet, rounded);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, hn::ShiftRight<16>(chosen))),
             d16, p);
}

}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // SINKLORA_KERNELS_CPU_SIMD_INL_H_
