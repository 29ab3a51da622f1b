// SPDX-License-Identifier: Apache-2.0
#include "common/weights/file_dtype.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "fmt/ranges.h"
#include "kernels/tensor.h"

namespace sinklora {
namespace {

struct DTypeRow {
  FileDType dtype;
  const char* name;
  uint64_t bytes;
};
constexpr DTypeRow kRows[] = {
    {FileDType::kF32, "F32", 4},   {FileDType::kF16, "F16", 2},
    {FileDType::kBF16, "BF16", 2}, {FileDType::kI64, "I64", 8},
    {FileDType::kI32, "I32", 4},   {FileDType::kU8, "U8", 1}};

float FromF16(uint16_t half) {
  const int exponent = half >> 10 & 0x1F;
  const int mantissa = half & 0x3FF;
  const float sign = half & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 0x1F) {
    return mantissa == 0 ? sign * INFINITY : NAN;
  }
  if (exponent == 0)
    return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(mantissa | 0x400), exponent - 25);
}

template <typename Convert>
void ConvertHalves(std::string_view bytes, std::vector<float>* out,
                   Convert convert) {
  for (size_t i = 0; i < out->size(); ++i) {
    uint16_t half;  // tensors may lie at odd offsets
    std::memcpy(&half, bytes.data() + 2 * i, 2);
    (*out)[i] = convert(half);
  }
}

}  // namespace

std::string FileDTypeName(FileDType dtype) {
  for (const DTypeRow& row : kRows) {
    if (row.dtype == dtype) return row.name;
  }
  return "?";
}

std::optional<FileDType> ParseFileDType(std::string_view name) {
  for (const DTypeRow& row : kRows) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

uint64_t FileDTypeBytes(FileDType dtype) {
  for (const DTypeRow& row : kRows) {
    if (row.dtype == dtype) return row.bytes;
  }
  return 0;
}

bool IsFloat(FileDType dtype) {
  return dtype == FileDType::kF32 || dtype == FileDType::kF16 ||
         dtype == FileDType::kBF16;
}

std::string ShapeToString(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

absl::StatusOr<std::vector<float>> ToF32(const StoredTensor& tensor) {
  std::vector<float> values(tensor.num_elements());
  if (values.empty() && IsFloat(tensor.dtype)) return values;
  switch (tensor.dtype) {
    case FileDType::kF32:
      std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
      return values;
    case FileDType::kF16:
      ConvertHalves(tensor.bytes, &values, FromF16);
      return values;
    case FileDType::kBF16:
      ConvertHalves(tensor.bytes, &values, kernels::FromBf16);
      return values;
    default:
      return absl::InvalidArgumentError(fmt::format(
          "a tensor of {} is not a float tensor", FileDTypeName(tensor.dtype)));
  }
}

TensorBytes::TensorBytes(const float* values, std::vector<int64_t> shape,
                         FileDType dtype)
    : dtype_(dtype), shape_(std::move(shape)) {
  const int64_t n = view().num_elements();
  bytes_.resize(n * FileDTypeBytes(dtype));
  if (n == 0) return;
  if (dtype == FileDType::kF32) {
    std::memcpy(bytes_.data(), values, bytes_.size());
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const kernels::bf16_t half = kernels::ToBf16(values[i]);
    std::memcpy(bytes_.data() + 2 * i, &half, 2);
  }
}

}  // namespace sinklora
