// The tokens "<0x00>" to "<0xFF>" of vocabularies with byte fallback.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_BYTE_TOKEN_H_
#define SINKLORA_COMMON_TEXT_BYTE_TOKEN_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace sinklora {

// The byte that "<0x4A>" stands for (capital hexadecimal digits only).
inline std::optional<uint8_t> ParseByteToken(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') {
    return std::nullopt;
  }
  int value = 0;
  for (char c : text.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'A' || c > 'F')) return std::nullopt;
    value = value * 16 + (digit ? c - '0' : c - 'A' + 10);
  }
  return static_cast<uint8_t>(value);
}

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_BYTE_TOKEN_H_
