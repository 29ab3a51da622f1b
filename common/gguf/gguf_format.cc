// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_format.h"

#include "fmt/format.h"

namespace sinklora {
namespace {

struct ValueRow {
  const char* name;
  uint64_t bytes;
};
// By number.
constexpr ValueRow kValueRows[] = {
    {"uint8", 1},  {"int8", 1},    {"uint16", 2}, {"int16", 2},  {"uint32", 4},
    {"int32", 4},  {"float32", 4}, {"bool", 1},   {"string", 0}, {"array", 0},
    {"uint64", 8}, {"int64", 8},   {"float64", 8}};

// By number; nullptr: removed from ggml.
constexpr const char* kGgmlNames[] = {
    "F32",   "F16",   "Q4_0",    "Q4_1",   nullptr,   nullptr, "Q5_0",
    "Q5_1",  "Q8_0",  "Q8_1",    "Q2_K",   "Q3_K",    "Q4_K",  "Q5_K",
    "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL",
    "IQ3_S", "IQ2_S", "IQ4_XS",  "I8",     "I16",     "I32",   "I64",
    "F64",   "IQ1_M", "BF16",    nullptr,  nullptr,   nullptr, "TQ1_0",
    "TQ2_0", nullptr, nullptr,   nullptr,  "MXFP4",   "NVFP4", "Q1_0",
    "Q2_0"};

}  // namespace

std::string GgufValueTypeName(uint32_t type) {
  return type < std::size(kValueRows) ? kValueRows[type].name
                                      : fmt::format("{}", type);
}

uint64_t GgufScalarBytes(uint32_t type) {
  return type < std::size(kValueRows) ? kValueRows[type].bytes : 0;
}

std::string GgmlTypeName(uint32_t type) {
  const bool known =
      type < std::size(kGgmlNames) && kGgmlNames[type] != nullptr;
  return known ? kGgmlNames[type] : fmt::format("{}", type);
}

std::optional<GgmlType> ToGgmlType(uint32_t type) {
  for (const GgmlType known :
       {GgmlType::kF32, GgmlType::kF16, GgmlType::kQ80, GgmlType::kBf16}) {
    if (static_cast<uint32_t>(known) == type) return known;
  }
  return std::nullopt;
}

GgmlBlock BlockOf(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return {1, 4};
    case GgmlType::kQ80:
      return {32, 34};  // an f16 scale and 32 int8
    case GgmlType::kF16:
    case GgmlType::kBf16:
      break;
  }
  return {1, 2};
}

std::optional<uint64_t> GgufTensorBytes(GgmlType type,
                                        const std::vector<int64_t>& shape) {
  const GgmlBlock block = BlockOf(type);
  if (shape.empty() || shape.back() % block.elements != 0) return std::nullopt;
  int64_t elements = 1;
  for (const int64_t dim : shape) {
    if (dim <= 0 || __builtin_mul_overflow(elements, dim, &elements)) {
      return std::nullopt;
    }
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(elements / block.elements,
                             static_cast<int64_t>(block.bytes), &bytes)) {
    return std::nullopt;
  }
  return static_cast<uint64_t>(bytes);
}

}  // namespace sinklora
