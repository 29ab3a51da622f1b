// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/convert.h"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/convert.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

void ToBf16Row(const float* from, bf16_t* to, int64_t n) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    StoreBf16(hn::LoadU(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = ToBf16(from[i]);
}

void ToF32Row(const bf16_t* from, float* to, int64_t n) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(LoadBf16(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = FromBf16(from[i]);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(ToBf16Row);
HWY_EXPORT(ToF32Row);

void ConvertToBf16(const float* from, bf16_t* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(ToBf16Row)(from, to, n);
}

void ConvertToF32(const bf16_t* from, float* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(ToF32Row)(from, to, n);
}

void CopyElements(const void* from, DType from_dtype, void* to, DType to_dtype,
                  int64_t n) {
  if (n == 0) return;
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, n * SizeOf(from_dtype));
  } else if (to_dtype == DType::kBF16) {
    ConvertToBf16(static_cast<const float*>(from), static_cast<bf16_t*>(to), n);
  } else {
    ConvertToF32(static_cast<const bf16_t*>(from), static_cast<float*>(to), n);
  }
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
