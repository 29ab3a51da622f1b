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

#include "common/weights/safetensors.h"

namespace sinklora {

// The name in safetensors headers, e.g. "BF16".
std::string FileDTypeName(FileDType dtype);
std::optional<FileDType> ParseFileDType(std::string_view name);
uint64_t FileDTypeBytes(FileDType dtype);
bool IsFloat(FileDType dtype);

// "[2, 3]", for messages.
std::string ShapeToString(const std::vector<int64_t>& shape);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_FILE_DTYPE_H_
