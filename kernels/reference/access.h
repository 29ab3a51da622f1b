// Element access for the reference kernels: any float dtype, any strides,
// through double.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_REFERENCE_ACCESS_H_
#define SINKLORA_KERNELS_REFERENCE_ACCESS_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace sinklora::kernels::reference {

template <typename View>
int64_t Offset(const View& view, int64_t i, int64_t j, int64_t k) {
  return i * view.stride[0] + j * view.stride[1] + k * view.stride[2];
}

// REQUIRES: f32 or bf16.
inline double Load(const ConstTensorView& view, int64_t i, int64_t j = 0,
                   int64_t k = 0) {
  const int64_t at = Offset(view, i, j, k);
  return view.dtype == DType::kBF16 ? FromBf16(view.as<bf16_t>()[at])
                                    : view.as<float>()[at];
}

inline int32_t LoadInt(const ConstTensorView& view, int64_t i, int64_t j = 0) {
  return view.as<int32_t>()[Offset(view, i, j, 0)];
}

inline void Store(const TensorView& view, double value, int64_t i,
                  int64_t j = 0, int64_t k = 0) {
  const int64_t at = Offset(view, i, j, k);
  if (view.dtype == DType::kBF16) {
    view.as<bf16_t>()[at] = ToBf16(static_cast<float>(value));
  } else {
    view.as<float>()[at] = static_cast<float>(value);
  }
}

}  // namespace sinklora::kernels::reference

#endif  // SINKLORA_KERNELS_REFERENCE_ACCESS_H_
