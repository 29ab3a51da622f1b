// Views of tensors: data pointer, dtype, shape and 64-bit strides. Views own
// nothing; the memory belongs to a Buffer of kernels/backend.h (or, in tests,
// to a vector) and must outlive every op it is passed to.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_TENSOR_H_
#define SINKLORA_KERNELS_TENSOR_H_

#include <array>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

namespace sinklora::kernels {

enum class DType { kF32, kBF16, kI32, kI8 };

constexpr int64_t SizeOf(DType dtype) {
  if (dtype == DType::kI8) return 1;
  return dtype == DType::kBF16 ? 2 : 4;
}

// bfloat16 stored as its 16 bits; conversion rounds to nearest even and keeps
// NaN a NaN.
using bf16_t = uint16_t;

inline bf16_t ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  // Rounding could carry a NaN payload into Inf, so NaNs are cut and quieted.
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t round_to_even = 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<bf16_t>(is_nan ? (bits >> 16) | 0x0040u
                                    : (bits + round_to_even) >> 16);
}

inline float FromBf16(bf16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

constexpr int kMaxRank = 4;

// Row-major view. `stride[i]` counts elements, not bytes. Unused trailing
// dimensions have shape 1.
template <typename Pointer>
struct BasicTensorView {
  Pointer data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, kMaxRank> shape{1, 1, 1, 1};
  std::array<int64_t, kMaxRank> stride{1, 1, 1, 1};

  BasicTensorView() = default;
  // Contiguous view of `data`.
  BasicTensorView(Pointer data_in, DType dtype_in,
                  std::initializer_list<int64_t> dims)
      : data(data_in), dtype(dtype_in), rank(static_cast<int>(dims.size())) {
    int i = 0;
    for (int64_t d : dims) shape[i++] = d;
    int64_t step = 1;
    for (int j = rank - 1; j >= 0; --j) {
      stride[j] = step;
      step *= shape[j];
    }
  }
  // A mutable view converts to a const one.
  template <typename Other,
            typename = std::enable_if_t<std::is_convertible_v<Other, Pointer>>>
  BasicTensorView(const BasicTensorView<Other>& o)  // NOLINT: implicit
      : data(o.data),
        dtype(o.dtype),
        rank(o.rank),
        shape(o.shape),
        stride(o.stride) {}

  bool empty() const { return data == nullptr; }
  int64_t num_elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }
  bool contiguous() const {
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; --i) {
      if (shape[i] != 1 && stride[i] != step) return false;
      step *= shape[i];
    }
    return true;
  }
  // Typed pointer; REQUIRES: T matches dtype.
  template <typename T>
  auto as() const {
    return static_cast<std::conditional_t<
        std::is_const_v<std::remove_pointer_t<Pointer>>, const T*, T*>>(data);
  }
  // Rows [begin, begin + count) of dimension 0.
  BasicTensorView Rows(int64_t begin, int64_t count) const {
    using Byte =
        std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>,
                           const char, char>;
    BasicTensorView out = *this;
    out.data = static_cast<Byte*>(data) + begin * stride[0] * SizeOf(dtype);
    out.shape[0] = count;
    return out;
  }
};

using TensorView = BasicTensorView<void*>;
using ConstTensorView = BasicTensorView<const void*>;

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_TENSOR_H_
