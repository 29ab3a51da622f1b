// SPDX-License-Identifier: Apache-2.0
#include "common/text/sentencepiece_normalizer.h"

#include <utility>

#include "common/base/status.h"
#include "common/text/utf8.h"

namespace sinklora {

absl::StatusOr<SentencePieceNormalizer> SentencePieceNormalizer::Create(
    const SentencePieceFile& file, const std::string& what) {
  SentencePieceNormalizer normalizer;
  if (!file.character_map.empty()) {
    SL_ASSIGN_OR_RETURN(normalizer.map_,
                        CharacterMap::Parse(file.character_map, what));
  }
  LiteralMatcher::Literals user_defined;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    if (file.pieces[id].type == PieceType::kUserDefined) {
      user_defined.emplace_back(file.pieces[id].text, static_cast<int32_t>(id));
    }
  }
  normalizer.user_defined_ = LiteralMatcher(std::move(user_defined));
  normalizer.add_dummy_prefix_ = file.add_dummy_prefix;
  normalizer.remove_extra_spaces_ = file.remove_extra_spaces;
  normalizer.escape_spaces_ = file.escape_spaces;
  normalizer.spaces_as_suffix_ = file.spaces_as_suffix;
  return normalizer;
}

std::string_view SentencePieceNormalizer::space() const {
  return escape_spaces_ ? kSpaceMark : " ";
}

CharacterMap::Match SentencePieceNormalizer::Prefix(std::string_view text,
                                                    size_t i) const {
  if (!user_defined_.empty()) {
    const size_t length = user_defined_.MatchAt(text, i).length;
    if (length > 0) return {length, text.substr(i, length)};
  }
  if (map_) {
    const CharacterMap::Match match = map_->Find(text, i);
    if (match.length > 0) return match;
  }
  const size_t length = CharacterLength(text, i);
  return {length, text.substr(i, length)};
}

std::string SentencePieceNormalizer::Normalize(std::string_view text,
                                               bool starts_text) const {
  size_t i = 0;
  if (remove_extra_spaces_ && starts_text) {
    while (i < text.size()) {
      const CharacterMap::Match match = Prefix(text, i);
      if (match.replacement != " ") break;
      i += match.length;
    }
  }
  std::string out;
  if (i == text.size()) return out;
  out.reserve(text.size() + text.size() / 4 + 8);
  const std::string_view space = this->space();
  if (add_dummy_prefix_ && !spaces_as_suffix_ && starts_text) out += space;
  bool after_space = remove_extra_spaces_ && starts_text;
  while (i < text.size()) {
    const CharacterMap::Match match = Prefix(text, i);
    std::string_view part = match.replacement;
    if (after_space) {
      const size_t first = part.find_first_not_of(' ');
      part.remove_prefix(std::min(first, part.size()));
    }
    for (char byte : part) {
      if (byte == ' ') {
        out += space;
      } else {
        out.push_back(byte);
      }
    }
    if (!part.empty()) after_space = part.ends_with(' ');
    if (!remove_extra_spaces_) after_space = false;
    i += match.length;
  }
  if (remove_extra_spaces_) {
    while (out.ends_with(space)) out.resize(out.size() - space.size());
  }
  if (add_dummy_prefix_ && spaces_as_suffix_) out += space;
  return out;
}

}  // namespace sinklora
