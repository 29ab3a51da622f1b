// SPDX-License-Identifier: Apache-2.0
#include "common/text/added_tokens.h"

#include <utility>

#include "common/text/unicode.h"
#include "common/text/utf8.h"

namespace sinklora {
namespace {

LiteralMatcher MakeMatcher(std::vector<std::string> patterns) {
  LiteralMatcher::Literals literals;
  for (size_t i = 0; i < patterns.size(); ++i) {
    if (patterns[i].empty()) continue;
    literals.emplace_back(std::move(patterns[i]), static_cast<int32_t>(i));
  }
  return LiteralMatcher(std::move(literals));
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens,
                                     std::vector<std::string> patterns)
    : tokens_(std::move(tokens)), matcher_(MakeMatcher(std::move(patterns))) {}

bool AddedTokenMatcher::StandsAlone(std::string_view text, size_t begin,
                                    size_t end) {
  if (begin > 0) {
    size_t start = 0;
    if (IsWordCharacter(LastCodePoint(text.substr(0, begin), &start))) {
      return false;
    }
  }
  if (end == text.size()) return true;
  return !IsWordCharacter(DecodeUtf8(text, &end));
}

size_t AddedTokenMatcher::SpaceBefore(std::string_view text, size_t begin,
                                      size_t least) {
  while (begin > least) {
    size_t start = 0;
    if (!IsWhiteSpace(LastCodePoint(text.substr(0, begin), &start))) break;
    begin = start;
  }
  return std::max(begin, least);
}

size_t AddedTokenMatcher::SpaceBehind(std::string_view text, size_t end) {
  while (end < text.size()) {
    size_t next = end;
    if (!IsWhiteSpace(DecodeUtf8(text, &next))) break;
    end = next;
  }
  return end;
}

}  // namespace sinklora
