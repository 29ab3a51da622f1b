// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_quants.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/base/status.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"
#include "kernels/tensor.h"

namespace sinklora {
namespace {

constexpr uint16_t kF16Exponent = 0x7C00;
constexpr uint16_t kBf16Exponent = 0x7F80;
constexpr int64_t kQ80Block = 32;
constexpr uint64_t kQ80Bytes = 34;

absl::Status OutOfRange(const std::string& what, float value, GgmlType type) {
  const char* range = type == GgmlType::kF16 || type == GgmlType::kQ80
                          ? "must be finite and in f16's range of +-65504"
                          : "must be finite";
  return absl::InvalidArgumentError(
      fmt::format("{} has the value {} on its way to {}, {}", what, value,
                  GgmlTypeName(type), range));
}

// To nearest, ties to even; beyond the range infinity. No NaN.
uint16_t ToF16(float value) {
  constexpr uint32_t kSmallestNormal = (127u - 14u) << 23;
  constexpr uint32_t kTooBig = (127u + 16u) << 23;
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude >= kTooBig) return sign | kF16Exponent;
  if (magnitude < kSmallestNormal) {
    // 0.5 has the place value of f16's subnormals: the addition rounds.
    const float sum = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(
        sign | (std::bit_cast<uint32_t>(sum) - std::bit_cast<uint32_t>(0.5f)));
  }
  constexpr uint32_t kRebias = (127u - 15u) << 23;
  const uint32_t rounded = magnitude - kRebias + 0xFFF + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | rounded >> 13);
}

template <typename Convert>
absl::Status EncodeHalves(std::span<const float> values, GgmlType type,
                          uint16_t exponent, Convert convert,
                          const std::string& what, std::string* out) {
  const size_t begin = out->size();
  out->resize(begin + 2 * values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = convert(values[i]);
    if ((half & exponent) == exponent) {
      return OutOfRange(what, values[i], type);
    }
    std::memcpy(out->data() + begin + 2 * i, &half, 2);
  }
  return absl::OkStatus();
}

// Half away from zero, as roundf. |value| < 2^23.
int8_t RoundToInt8(float value) {
  const float magnitude = std::fabs(value);
  const int whole = static_cast<int>(magnitude);
  const int rounded =
      whole + (magnitude - static_cast<float>(whole) >= 0.5f ? 1 : 0);
  return static_cast<int8_t>(std::signbit(value) ? -rounded : rounded);
}

absl::Status EncodeQ80(std::span<const float> values, const std::string& what,
                       std::string* out) {
  const size_t blocks = values.size() / kQ80Block;
  size_t at = out->size();
  out->resize(at + blocks * kQ80Bytes);
  for (size_t b = 0; b < blocks; ++b, at += kQ80Bytes) {
    const float* x = values.data() + b * kQ80Block;
    float largest = 0;
    for (int64_t i = 0; i < kQ80Block; ++i) {
      // A NaN, which compares false, must not pass unseen.
      if (!(std::fabs(x[i]) <= largest)) largest = std::fabs(x[i]);
      if (!std::isfinite(largest))
        return OutOfRange(what, x[i], GgmlType::kQ80);
    }
    const float scale = largest / 127;
    // The inverse of a scale that f16 rounds to zero may be infinite.
    const float inverse =
        scale >= std::numeric_limits<float>::min() ? 1 / scale : 0;
    const uint16_t half = ToF16(scale);
    if ((half & kF16Exponent) == kF16Exponent) {
      return OutOfRange(what, largest, GgmlType::kQ80);
    }
    std::memcpy(out->data() + at, &half, 2);
    for (int64_t i = 0; i < kQ80Block; ++i) {
      (*out)[at + 2 + i] = static_cast<char>(RoundToInt8(x[i] * inverse));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status EncodeGguf(std::span<const float> values, GgmlType type,
                        const std::string& what, std::string* out) {
  switch (type) {
    case GgmlType::kF16:
      return EncodeHalves(values, type, kF16Exponent, ToF16, what, out);
    case GgmlType::kBf16:
      return EncodeHalves(values, type, kBf16Exponent, kernels::ToBf16, what,
                          out);
    case GgmlType::kQ80:
      return EncodeQ80(values, what, out);
    case GgmlType::kF32:
      break;
  }
  for (const float value : values) {
    if (!std::isfinite(value)) return OutOfRange(what, value, type);
  }
  out->append(reinterpret_cast<const char*>(values.data()),
              values.size_bytes());
  return absl::OkStatus();
}

absl::Status DecodeQ80(std::string_view bytes, const std::string& what,
                       float* out) {
  const size_t blocks = bytes.size() / kQ80Bytes;
  std::string scales;
  scales.reserve(2 * blocks);
  for (size_t b = 0; b < blocks; ++b) {
    scales.append(bytes.substr(b * kQ80Bytes, 2));
  }
  SL_ASSIGN_OR_RETURN(
      const std::vector<float> scale,
      ToF32({FileDType::kF16, {static_cast<int64_t>(blocks)}, scales}));
  for (size_t b = 0; b < blocks; ++b) {
    if (!std::isfinite(scale[b])) {
      return absl::InvalidArgumentError(
          fmt::format("{} has the scale {} in block {}, must be finite", what,
                      scale[b], b));
    }
    for (int64_t i = 0; i < kQ80Block; ++i) {
      const auto quant = static_cast<int8_t>(bytes[b * kQ80Bytes + 2 + i]);
      *out++ = scale[b] * static_cast<float>(quant);
    }
  }
  return absl::OkStatus();
}

}  // namespace sinklora
