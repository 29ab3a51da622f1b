// UTF-8 helpers.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_UTF8_H_
#define SINKLORA_COMMON_TEXT_UTF8_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace sinklora {

// What vocabularies of SentencePiece write for a space: U+2581.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

// Offset of the first byte that is not part of valid UTF-8 (overlong forms,
// surrogates and values over U+10FFFF are invalid), or npos when all of it is
// valid.
size_t FindInvalidUtf8(std::string_view text);
// True when `text` is the start of one character that more bytes can complete.
bool IsIncompleteUtf8(std::string_view text);
// Decodes one code point at *offset and advances it. REQUIRES: valid UTF-8,
// *offset < text.size().
char32_t DecodeUtf8(std::string_view text, size_t* offset);
// Bytes of the character at `offset`. REQUIRES the same.
inline size_t CharacterLength(std::string_view text, size_t offset) {
  const auto first = static_cast<unsigned char>(text[offset]);
  return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}
void AppendUtf8(char32_t code_point, std::string* out);
// Removes a leading byte order mark, turns CRLF and lone CR into LF.
std::string NormalizeNewlines(std::string_view text);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_UTF8_H_
