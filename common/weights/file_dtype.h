// The element types of safetensors files, and their conversion to and from f32.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_FILE_DTYPE_H_
#define SINKLORA_COMMON_WEIGHTS_FILE_DTYPE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sinklora {

// Every type of the format. Only F32, F16 and BF16 hold weights here; a file
// with tensors of the others opens, and using one is an error that names it.
// In the format's order, by size: writers lay tensors out from last to first,
// so that each is aligned to its size.
enum class FileDType {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

// The name in safetensors headers, e.g. "BF16".
std::string FileDTypeName(FileDType dtype);
std::optional<FileDType> ParseFileDType(std::string_view name);
// "F32, F16, ...": all names, for messages.
std::string AllFileDTypes();
// Bits of an element; F4 and F6 do not fill whole bytes.
uint64_t FileDTypeBits(FileDType dtype);
bool IsFloat(FileDType dtype);  // F32, F16 or BF16

// Bytes of a tensor; nullopt when a dimension is negative, when elements or
// bytes pass 2^63 - 1 (of the dimensions before a zero, too) or when the bits
// fill no whole number of bytes.
std::optional<uint64_t> StoredBytes(FileDType dtype,
                                    const std::vector<int64_t>& shape);

// "[2, 3]", for messages.
std::string ShapeToString(const std::vector<int64_t>& shape);
// "tensor 'NAME'", for messages: printable and not longer than a line or two,
// whatever a file calls its tensors.
std::string TensorLabel(std::string_view name);
// "A; B; C" of a list of findings, at most 100 of them and then how many more.
std::string JoinForMessage(const std::vector<std::string>& findings);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_FILE_DTYPE_H_
