// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/ascii.h"
#include "common/gguf/gguf.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

struct Row {
  GgufFileType type;
  std::string_view name;
};
constexpr Row kRows[] = {{GgufFileType::kF32, "f32"},
                         {GgufFileType::kF16, "f16"},
                         {GgufFileType::kBf16, "bf16"},
                         {GgufFileType::kQ80, "q8_0"}};

}  // namespace

absl::StatusOr<GgufFileType> ParseGgufFileType(std::string_view name) {
  const std::string lower =
      absl::AsciiStrToLower(absl::string_view(name.data(), name.size()));
  for (const Row& row : kRows) {
    if (row.name == lower) return row.type;
  }
  return absl::InvalidArgumentError(fmt::format(
      "GGUF file type '{}' is not supported, must be f32, f16, bf16 or q8_0",
      name));
}

std::string_view GgufFileTypeName(GgufFileType type) {
  for (const Row& row : kRows) {
    if (row.type == type) return row.name;
  }
  return "?";
}

}  // namespace sinklora
