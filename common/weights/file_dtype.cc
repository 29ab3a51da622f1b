// SPDX-License-Identifier: Apache-2.0
#include "common/weights/file_dtype.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "common/text/json.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "kernels/tensor.h"

namespace sinklora {
namespace {

struct DTypeRow {
  FileDType dtype;
  const char* name;
  uint64_t bits;
};
constexpr DTypeRow kRows[] = {
    {FileDType::kF32, "F32", 32},
    {FileDType::kF16, "F16", 16},
    {FileDType::kBF16, "BF16", 16},
    {FileDType::kF64, "F64", 64},
    {FileDType::kC64, "C64", 64},
    {FileDType::kI64, "I64", 64},
    {FileDType::kU64, "U64", 64},
    {FileDType::kI32, "I32", 32},
    {FileDType::kU32, "U32", 32},
    {FileDType::kI16, "I16", 16},
    {FileDType::kU16, "U16", 16},
    {FileDType::kI8, "I8", 8},
    {FileDType::kU8, "U8", 8},
    {FileDType::kBool, "BOOL", 8},
    {FileDType::kF8E4M3, "F8_E4M3", 8},
    {FileDType::kF8E5M2, "F8_E5M2", 8},
    {FileDType::kF8E8M0, "F8_E8M0", 8},
    {FileDType::kF8E4M3Fnuz, "F8_E4M3FNUZ", 8},
    {FileDType::kF8E5M2Fnuz, "F8_E5M2FNUZ", 8},
    {FileDType::kF6E2M3, "F6_E2M3", 6},
    {FileDType::kF6E3M2, "F6_E3M2", 6},
    {FileDType::kF4, "F4", 4},
};

const DTypeRow& RowOf(FileDType dtype) {
  for (const DTypeRow& row : kRows) {
    if (row.dtype == dtype) return row;
  }
  return kRows[0];  // not reached: every type has a row
}

float FromF16(uint16_t half) {
  constexpr uint32_t kExponent = 0x1F;
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = half >> 10 & kExponent;
  const uint32_t mantissa = half & 0x3FF;
  if (exponent == 0) {  // zero or subnormal
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  constexpr uint32_t kRebias = 127 - 15;
  const uint32_t wide = exponent == kExponent ? 255 : exponent + kRebias;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
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

// Index of the first element whose exponent is all ones (infinity or NaN), or
// `count`. Whole blocks are tested first, in a loop without a branch.
template <typename Bits>
int64_t FindNonFinite(const char* data, int64_t count, Bits exponent) {
  constexpr int64_t kBlock = 4096;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, count);
    Bits any = 0;
    for (int64_t i = begin; i < end; ++i) {
      Bits value;
      std::memcpy(&value, data + i * sizeof(Bits), sizeof(Bits));
      any |= static_cast<Bits>(-((value & exponent) == exponent));
    }
    if (any == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      Bits value;
      std::memcpy(&value, data + i * sizeof(Bits), sizeof(Bits));
      if ((value & exponent) == exponent) return i;
    }
  }
  return count;
}

}  // namespace

std::string FileDTypeName(FileDType dtype) { return RowOf(dtype).name; }

std::optional<FileDType> ParseFileDType(std::string_view name) {
  for (const DTypeRow& row : kRows) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

std::string AllFileDTypes() {
  std::vector<const char*> names;
  for (const DTypeRow& row : kRows) names.push_back(row.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

uint64_t FileDTypeBits(FileDType dtype) { return RowOf(dtype).bits; }

bool IsFloat(FileDType dtype) {
  return dtype == FileDType::kF32 || dtype == FileDType::kF16 ||
         dtype == FileDType::kBF16;
}

std::optional<uint64_t> StoredBytes(FileDType dtype,
                                    const std::vector<int64_t>& shape) {
  // Signed, like num_elements(), which multiplies in the same order.
  int64_t elements = 1;
  for (int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(elements, dim, &elements)) {
      return std::nullopt;
    }
  }
  // In 128 bits the product cannot overflow.
  const auto bits = static_cast<unsigned __int128>(elements) *
                    static_cast<unsigned __int128>(FileDTypeBits(dtype));
  constexpr auto kMax = std::numeric_limits<int64_t>::max();
  if (bits % 8 != 0 || bits / 8 > static_cast<unsigned __int128>(kMax)) {
    return std::nullopt;
  }
  return static_cast<uint64_t>(bits / 8);
}

std::string ShapeToString(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string TensorLabel(std::string_view name) {
  constexpr size_t kMaxBytes = 200;
  return fmt::format("tensor '{}'", PrintableExcerpt(name, kMaxBytes));
}

std::string JoinForMessage(const std::vector<std::string>& findings) {
  constexpr size_t kMaxShown = 100;
  const size_t shown = std::min(findings.size(), kMaxShown);
  std::string text = fmt::format(
      "{}", fmt::join(findings.begin(), findings.begin() + shown, "; "));
  if (shown < findings.size()) {
    text += fmt::format("; and {} more", findings.size() - shown);
  }
  return text;
}

absl::StatusOr<std::vector<float>> ToF32(const StoredTensor& tensor) {
  if (!IsFloat(tensor.dtype)) {
    return absl::InvalidArgumentError(
        fmt::format("a tensor of {} is not a float tensor, must be F32, F16 or "
                    "BF16",
                    FileDTypeName(tensor.dtype)));
  }
  std::vector<float> values(tensor.num_elements());
  if (values.empty()) return values;
  if (tensor.dtype == FileDType::kF32) {
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  } else if (tensor.dtype == FileDType::kF16) {
    ConvertHalves(tensor.bytes, &values, FromF16);
  } else {
    ConvertHalves(tensor.bytes, &values, kernels::FromBf16);
  }
  return values;
}

std::optional<int64_t> FirstNonFinite(const StoredTensor& tensor) {
  const char* data = tensor.bytes.data();
  const int64_t count = tensor.num_elements();
  int64_t found = count;
  switch (tensor.dtype) {
    case FileDType::kF32:
      found = FindNonFinite<uint32_t>(data, count, 0x7F800000u);
      break;
    case FileDType::kF16:
      found = FindNonFinite<uint16_t>(data, count, 0x7C00);
      break;
    case FileDType::kBF16:
      found = FindNonFinite<uint16_t>(data, count, 0x7F80);
      break;
    default:
      break;
  }
  if (found == count) return std::nullopt;
  return found;
}

TensorBytes::TensorBytes(const float* values, std::vector<int64_t> shape,
                         FileDType dtype)
    : dtype_(dtype), shape_(std::move(shape)) {
  const int64_t n = view().num_elements();
  bytes_.resize(n * FileDTypeBits(dtype) / 8);
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
