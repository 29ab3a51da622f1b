// What reader and writer share of the GGUF format, version 3: little-endian;
// header, typed key-value metadata, tensor infos, tensor data at aligned
// offsets.
// Source: ggml's docs/gguf.md and its reader (src/gguf.cpp).
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_GGUF_FORMAT_H_
#define SINKLORA_COMMON_GGUF_GGUF_FORMAT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sinklora {

inline constexpr std::string_view kGgufMagic = "GGUF";
inline constexpr uint32_t kGgufVersion = 3;
inline constexpr uint32_t kGgufAlignment = 32;  // unless general.alignment says
inline constexpr char kGgufAlignmentKey[] = "general.alignment";
inline constexpr uint32_t kGgufMaxDimensions = 4;
// Of ggml, which counts a terminating NUL.
inline constexpr size_t kGgufMaxTensorName = 63;

enum class GgufValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// "uint32"; the number of a type that is none.
std::string GgufValueTypeName(uint32_t type);
// Bytes of a scalar; 0 for strings, arrays and what is no type.
uint64_t GgufScalarBytes(uint32_t type);

// The element types that are read and written here.
enum class GgmlType : uint32_t { kF32 = 0, kF16 = 1, kQ80 = 8, kBf16 = 30 };

// "Q4_K", also of types that are not read here; the number when unknown.
std::string GgmlTypeName(uint32_t type);
inline std::string GgmlTypeName(GgmlType type) {
  return GgmlTypeName(static_cast<uint32_t>(type));
}
std::optional<GgmlType> ToGgmlType(uint32_t type);

// A row is stored in blocks of this many elements, each of so many bytes.
struct GgmlBlock {
  int64_t elements;
  uint64_t bytes;
};
GgmlBlock BlockOf(GgmlType type);

// Bytes of a row-major tensor; nullopt when a dimension is not positive, when
// the last is no multiple of the block, or when elements or bytes pass 2^63.
std::optional<uint64_t> GgufTensorBytes(GgmlType type,
                                        const std::vector<int64_t>& shape);

// `offset` rounded up to a multiple of `alignment`, a power of two.
inline uint64_t GgufAlign(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) & ~(alignment - 1);
}

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_GGUF_FORMAT_H_
