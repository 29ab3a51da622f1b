// Which slots of a cache a query sees. Included once per target.
//
// SPDX-License-Identifier: Apache-2.0
#if defined(SINKLORA_KERNELS_CACHE_ATTENTION_VISIBLE_SLOTS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SINKLORA_KERNELS_CACHE_ATTENTION_VISIBLE_SLOTS_INL_H_
#undef SINKLORA_KERNELS_CACHE_ATTENTION_VISIBLE_SLOTS_INL_H_
#else
#define SINKLORA_KERNELS_CACHE_ATTENTION_VISIBLE_SLOTS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {

// Positions that a query sees.
struct Seen {
  int32_t first, last;
};
HWY_INLINE Seen SeenFrom(int32_t position, int64_t window) {
  const int64_t first = window == 0 ? 0 : position - window + 1;
  return {static_cast<int32_t>(std::max<int64_t>(0, first)), position};
}

// Lanes of columns [c, c + lanes) with first <= position <= last.
HWY_INLINE hn::Mask<F32Tag> VisibleSlots(const int32_t* positions, int64_t c,
                                         Seen seen) {
  const F32Tag d;
  const hn::RebindToSigned<F32Tag> di;
  const auto at = hn::LoadU(di, positions + c);
  const auto valid = hn::Gt(at, hn::Set(di, seen.first - 1));
  const auto beyond = hn::Gt(at, hn::Set(di, seen.last));
  return hn::RebindMask(d, hn::AndNot(beyond, valid));
}

}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_VISIBLE_SLOTS_INL_H_
