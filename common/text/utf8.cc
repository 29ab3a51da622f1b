// SPDX-License-Identifier: Apache-2.0
#include "common/text/utf8.h"

#include <algorithm>

namespace sinklora {
namespace {

bool IsContinuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// Bytes of the character that starts with `b0`; 0: none does.
size_t LengthFromFirst(unsigned char b0) {
  if (b0 < 0x80) return 1;
  if (b0 < 0xC2 || b0 > 0xF4) return 0;
  return b0 < 0xE0 ? 2 : b0 < 0xF0 ? 3 : 4;
}

// The second byte is what rules out overlong forms, surrogates and values above
// U+10FFFF.
bool MayFollow(unsigned char b0, unsigned char b1) {
  if (b0 == 0xE0 && b1 < 0xA0) return false;
  if (b0 == 0xED && b1 > 0x9F) return false;
  if (b0 == 0xF0 && b1 < 0x90) return false;
  if (b0 == 0xF4 && b1 > 0x8F) return false;
  return IsContinuation(b1);
}

// How many bytes from `i` on are the start of one character, at most all of
// it; *length is that character's length, 0 when none starts so.
size_t GoodBytes(std::string_view text, size_t i, size_t* length) {
  const auto at = [&](size_t j) { return static_cast<unsigned char>(text[j]); };
  *length = LengthFromFirst(at(i));
  if (*length == 0) return 0;
  const size_t end = std::min(*length, text.size() - i);
  for (size_t j = 1; j < end; ++j) {
    const bool good =
        j == 1 ? MayFollow(at(i), at(i + 1)) : IsContinuation(at(i + j));
    if (!good) return j;
  }
  return end;
}

}  // namespace

size_t FindInvalidUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    size_t length = 0;
    const size_t good = GoodBytes(text, i, &length);
    if (length == 0 || good < length) return i;
    i += length;
  }
  return std::string_view::npos;
}

bool IsIncompleteUtf8(std::string_view text) {
  if (text.empty()) return false;
  size_t length = 0;
  const size_t good = GoodBytes(text, 0, &length);
  return good == text.size() && good < length;
}

char32_t DecodeUtf8(std::string_view text, size_t* offset) {
  const auto at = [&](size_t j) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[j]));
  };
  const size_t i = *offset;
  const char32_t b0 = at(i);
  if (b0 < 0x80) {
    *offset = i + 1;
    return b0;
  }
  if (b0 < 0xE0) {
    *offset = i + 2;
    return (b0 & 0x1F) << 6 | (at(i + 1) & 0x3F);
  }
  if (b0 < 0xF0) {
    *offset = i + 3;
    return (b0 & 0x0F) << 12 | (at(i + 1) & 0x3F) << 6 | (at(i + 2) & 0x3F);
  }
  *offset = i + 4;
  return (b0 & 0x07) << 18 | (at(i + 1) & 0x3F) << 12 |
         (at(i + 2) & 0x3F) << 6 | (at(i + 3) & 0x3F);
}

void AppendUtf8(char32_t code_point, std::string* out) {
  const auto add = [out](char32_t byte) {
    out->push_back(static_cast<char>(byte));
  };
  if (code_point < 0x80) {
    add(code_point);
  } else if (code_point < 0x800) {
    add(0xC0 | code_point >> 6);
    add(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    add(0xE0 | code_point >> 12);
    add(0x80 | (code_point >> 6 & 0x3F));
    add(0x80 | (code_point & 0x3F));
  } else {
    add(0xF0 | code_point >> 18);
    add(0x80 | (code_point >> 12 & 0x3F));
    add(0x80 | (code_point >> 6 & 0x3F));
    add(0x80 | (code_point & 0x3F));
  }
}

std::string NormalizeNewlines(std::string_view text) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(3);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      out.push_back(text[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
  }
  return out;
}

}  // namespace sinklora
