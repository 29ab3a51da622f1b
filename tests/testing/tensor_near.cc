// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/tensor_near.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>

namespace sinklora::testing {
namespace {

using kernels::ConstTensorView;
using kernels::DType;
using kernels::SizeOf;
using kernels::TensorView;
using ::testing::AssertionFailure;
using ::testing::AssertionResult;
using ::testing::AssertionSuccess;

constexpr uint8_t kCanary = 0xA5;

int64_t OffsetOf(const ConstTensorView& view, int64_t i, int64_t j, int64_t k) {
  return i * view.stride[0] + j * view.stride[1] + k * view.stride[2];
}

// Stops at the first failure that body(i, j, k) returns.
template <typename Body>
AssertionResult ForEachIndex(const ConstTensorView& view, Body body) {
  for (int64_t i = 0; i < view.shape[0]; ++i) {
    for (int64_t j = 0; j < view.shape[1]; ++j) {
      for (int64_t k = 0; k < view.shape[2]; ++k) {
        if (AssertionResult result = body(i, j, k); !result) return result;
      }
    }
  }
  return AssertionSuccess();
}

std::string ShapeOf(const ConstTensorView& view) {
  std::string text = "[";
  for (int i = 0; i < view.rank; ++i) {
    if (i > 0) text.append(", ");
    text.append(std::to_string(view.shape[i]));
  }
  return text.append("]");
}

AssertionResult Comparable(const ConstTensorView& actual,
                           const ConstTensorView& expected) {
  if (actual.rank != expected.rank || actual.shape != expected.shape) {
    return AssertionFailure()
           << "shape " << ShapeOf(actual) << " against " << ShapeOf(expected);
  }
  if (actual.rank < 1 || actual.rank > 3) {
    return AssertionFailure() << "rank " << actual.rank << " not in [1, 3]";
  }
  if (actual.num_elements() == 0 || actual.empty() || expected.empty()) {
    return AssertionFailure() << "nothing to compare";
  }
  return AssertionSuccess();
}

}  // namespace

double Element(const ConstTensorView& view, int64_t i, int64_t j, int64_t k) {
  const int64_t at = OffsetOf(view, i, j, k);
  switch (view.dtype) {
    case DType::kF32:
      return view.as<float>()[at];
    case DType::kBF16:
      return kernels::FromBf16(view.as<kernels::bf16_t>()[at]);
    case DType::kI32:
      return view.as<int32_t>()[at];
    case DType::kI8:
      return view.as<int8_t>()[at];
  }
  return std::nan("");
}

AssertionResult TensorNear(const ConstTensorView& actual,
                           const ConstTensorView& expected,
                           const Tolerance& tolerance) {
  if (AssertionResult same = Comparable(actual, expected); !same) return same;
  double largest = 0.0;
  AssertionResult finite =
      ForEachIndex(expected, [&](int64_t i, int64_t j, int64_t k) {
        const double value = Element(expected, i, j, k);
        if (!std::isfinite(value)) {
          return AssertionFailure() << "expected is " << value << " at [" << i
                                    << ", " << j << ", " << k << "]";
        }
        largest = std::max(largest, std::fabs(value));
        return AssertionSuccess();
      });
  if (!finite) return finite;
  return ForEachIndex(expected, [&](int64_t i, int64_t j, int64_t k) {
    const double want = Element(expected, i, j, k);
    const double got = Element(actual, i, j, k);
    const double limit = tolerance.relative * std::fabs(want) +
                         tolerance.of_largest * largest + tolerance.absolute;
    // Written so that a NaN anywhere fails.
    if (std::isfinite(got) && std::fabs(got - want) <= limit) {
      return AssertionSuccess();
    }
    return AssertionFailure() << "[" << i << ", " << j << ", " << k << "] is "
                              << got << ", expected " << want << " +- " << limit
                              << " (largest " << largest << ")";
  });
}

AssertionResult BitEqual(const ConstTensorView& actual,
                         const ConstTensorView& expected) {
  if (AssertionResult same = Comparable(actual, expected); !same) return same;
  if (actual.dtype != expected.dtype) {
    return AssertionFailure() << "dtypes differ";
  }
  const int64_t size = SizeOf(actual.dtype);
  return ForEachIndex(expected, [&](int64_t i, int64_t j, int64_t k) {
    const char* a = actual.as<char>() + OffsetOf(actual, i, j, k) * size;
    const char* b = expected.as<char>() + OffsetOf(expected, i, j, k) * size;
    if (std::memcmp(a, b, size) == 0) return AssertionSuccess();
    return AssertionFailure()
           << "[" << i << ", " << j << ", " << k << "] is "
           << Element(actual, i, j, k) << ", expected exactly "
           << Element(expected, i, j, k);
  });
}

HostTensor::HostTensor(DType dtype, std::vector<int64_t> shape,
                       int64_t padding) {
  layout_.dtype = dtype;
  layout_.rank = static_cast<int>(shape.size());
  int64_t step = 1;
  for (int i = layout_.rank - 1; i >= 0; --i) {
    layout_.shape[i] = shape[i];
    layout_.stride[i] = step;
    step = step * shape[i] + padding;
  }
  const int64_t size = SizeOf(dtype);
  offset_bytes_ = padding > 0 ? size : 0;
  bytes_.assign(offset_bytes_ + (step + 1) * size, kCanary);
  is_element_.assign(bytes_.size(), false);
  (void)ForEachIndex(layout_, [&](int64_t i, int64_t j, int64_t k) {
    const int64_t at = offset_bytes_ + OffsetOf(layout_, i, j, k) * size;
    std::fill_n(is_element_.begin() + at, size, true);
    std::fill_n(bytes_.begin() + at, size, uint8_t{0});
    return AssertionSuccess();
  });
}

HostTensor HostTensor::Zeros(DType dtype, std::vector<int64_t> shape,
                             int64_t padding) {
  return HostTensor(dtype, std::move(shape), padding);
}

HostTensor HostTensor::Random(DType dtype, std::vector<int64_t> shape,
                              uint64_t seed, double scale, int64_t padding) {
  HostTensor tensor(dtype, std::move(shape), padding);
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0.0, scale);
  (void)ForEachIndex(tensor.layout_, [&](int64_t i, int64_t j, int64_t k) {
    tensor.Set(normal(engine), i, j, k);
    return AssertionSuccess();
  });
  return tensor;
}

HostTensor HostTensor::Ints(std::vector<int64_t> shape,
                            const std::vector<int32_t>& values) {
  HostTensor tensor(DType::kI32, std::move(shape), 0);
  size_t next = 0;
  (void)ForEachIndex(tensor.layout_, [&](int64_t i, int64_t j, int64_t k) {
    tensor.Set(values.at(next++), i, j, k);
    return AssertionSuccess();
  });
  return tensor;
}

HostTensor HostTensor::NaNs(DType dtype, std::vector<int64_t> shape,
                            int64_t padding) {
  HostTensor tensor(dtype, std::move(shape), padding);
  for (size_t i = 0; i < tensor.bytes_.size(); ++i) {
    if (tensor.is_element_[i]) tensor.bytes_[i] = 0xFF;
  }
  return tensor;
}

TensorView HostTensor::view() {
  TensorView out;
  out.data = bytes_.data() + offset_bytes_;
  out.dtype = layout_.dtype;
  out.rank = layout_.rank;
  out.shape = layout_.shape;
  out.stride = layout_.stride;
  return out;
}

ConstTensorView HostTensor::view() const {
  ConstTensorView out = layout_;
  out.data = bytes_.data() + offset_bytes_;
  return out;
}

void HostTensor::Set(double value, int64_t i, int64_t j, int64_t k) {
  const TensorView to = view();
  const int64_t at = OffsetOf(layout_, i, j, k);
  switch (layout_.dtype) {
    case DType::kF32:
      to.as<float>()[at] = static_cast<float>(value);
      break;
    case DType::kBF16:
      to.as<kernels::bf16_t>()[at] = kernels::ToBf16(static_cast<float>(value));
      break;
    case DType::kI32:
      to.as<int32_t>()[at] = static_cast<int32_t>(value);
      break;
    case DType::kI8:
      to.as<int8_t>()[at] = static_cast<int8_t>(value);
      break;
  }
}

bool HostTensor::GapsUntouched() const {
  for (size_t i = 0; i < bytes_.size(); ++i) {
    if (!is_element_[i] && bytes_[i] != kCanary) return false;
  }
  return true;
}

}  // namespace sinklora::testing
