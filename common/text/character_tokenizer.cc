// SPDX-License-Identifier: Apache-2.0
#include "common/text/character_tokenizer.h"

#include <utility>

#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/text/utf8.h"
#include "common/text/word_cache.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr char kSpaceMark[] = "\xE2\x96\x81";  // U+2581

// Length of the character at `i` of valid UTF-8.
size_t CharacterLength(std::string_view text, size_t i) {
  size_t end = i;
  DecodeUtf8(text, &end);
  return end - i;
}

bool HasSpaceInside(std::string_view text, std::string_view space) {
  size_t i = 0;
  while (text.substr(i).starts_with(space)) i += space.size();
  return text.find(space, i) != std::string_view::npos;
}

}  // namespace

std::optional<uint8_t> ParseByteToken(std::string_view text) {
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

absl::Status AddCharacterToken(std::string_view text, int64_t id, bool escaped,
                               CharacterOptions* options,
                               VocabularyBuilder* builder) {
  if (const std::optional<uint8_t> byte = ParseByteToken(text)) {
    options->byte_ids[*byte] = static_cast<int32_t>(id);
    return builder->AddToken(id, std::string(1, static_cast<char>(*byte)),
                             text);
  }
  std::string bytes(text);
  if (escaped) absl::StrReplaceAll({{kSpaceMark, " "}}, &bytes);
  SL_RETURN_IF_ERROR(builder->AddToken(id, std::move(bytes), text));
  if (!text.empty() && CharacterLength(text, 0) == text.size()) {
    options->characters[std::string(text)] = static_cast<int32_t>(id);
  }
  if (HasSpaceInside(text, escaped ? kSpaceMark : " ")) {
    options->splits_at_space = false;
  }
  return absl::OkStatus();
}

absl::Status CheckByteTokens(const CharacterOptions& options,
                             const std::string& what) {
  for (int byte = 0; byte < 256; ++byte) {
    if (options.byte_ids[byte] >= 0) continue;
    return absl::InvalidArgumentError(
        fmt::format("{}: byte_fallback is true but the vocabulary has no token "
                    "<0x{:02X}>",
                    what, byte));
  }
  return absl::OkStatus();
}

CharacterTokenizer::CharacterTokenizer(CharacterOptions options)
    : VocabTokenizer(std::move(options.vocabulary)),
      merges_(std::move(options.merges)),
      characters_(std::move(options.characters)),
      byte_ids_(options.byte_ids),
      unknown_id_(options.unknown_id),
      literals_(std::move(options.literals)),
      prefix_(options.prefix),
      remove_extra_spaces_(options.remove_extra_spaces),
      space_(options.escape_spaces ? kSpaceMark : " "),
      splits_at_space_(options.splits_at_space) {}

std::string CharacterTokenizer::Normalize(std::string_view text) const {
  if (remove_extra_spaces_) {
    const size_t first = text.find_first_not_of(' ');
    if (first == std::string_view::npos) return std::string();
    text.remove_prefix(first);
  }
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  const bool starts_with_space =
      text.front() == ' ' || text.starts_with(space_);
  if (prefix_ == CharacterOptions::Prefix::kAlways ||
      (prefix_ == CharacterOptions::Prefix::kIfMissing && !starts_with_space)) {
    out += space_;
  }
  bool after_space = false;
  for (char byte : text) {
    const bool is_space = byte == ' ';
    if (!is_space) {
      out.push_back(byte);
    } else if (!remove_extra_spaces_ || !after_space) {
      out += space_;
    }
    after_space = is_space;
  }
  if (remove_extra_spaces_) {
    while (out.ends_with(space_)) out.resize(out.size() - space_.size());
  }
  return out;
}

absl::StatusOr<std::vector<int32_t>> CharacterTokenizer::EncodeValid(
    std::string_view text) const {
  const std::string normalized = Normalize(text);
  const std::string_view view = normalized;
  std::vector<int32_t> ids;
  size_t done = 0;
  while (done < view.size()) {
    const LiteralMatcher::Match match = literals_.Find(view, done);
    const bool found = match.offset != std::string_view::npos;
    const size_t end = found ? match.offset : view.size();
    EncodeSegment(view.substr(done, end - done), &ids);
    done = end;
    if (found) {
      ids.push_back(match.id);
      done += match.length;
    }
  }
  if (!unknown_id_) return ids;
  // A run of unknown characters is one unknown token.
  std::vector<int32_t> fused;
  for (int32_t id : ids) {
    if (id == *unknown_id_ && !fused.empty() && fused.back() == id) continue;
    fused.push_back(id);
  }
  return fused;
}

size_t CharacterTokenizer::WordEnd(std::string_view text, size_t begin) const {
  if (!splits_at_space_) return text.size();
  size_t i = begin;
  while (text.substr(i).starts_with(space_)) i += space_.size();
  return std::min(text.find(space_, i), text.size());
}

void CharacterTokenizer::EncodeSegment(std::string_view text,
                                       std::vector<int32_t>* ids) const {
  WordCache cache(ids);
  MergeTable::Scratch scratch;
  std::vector<int32_t> symbols;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = WordEnd(text, begin);
    const std::string_view word = text.substr(begin, end - begin);
    begin = end;
    if (cache.AppendKnown(word)) continue;
    symbols.clear();
    for (size_t i = 0; i < word.size();) {
      const size_t length = CharacterLength(word, i);
      AppendCharacter(word.substr(i, length), &symbols);
      i += length;
    }
    merges_.Apply(&symbols, &scratch);
    cache.AppendNew(word, symbols);
  }
}

void CharacterTokenizer::AppendCharacter(std::string_view character,
                                         std::vector<int32_t>* symbols) const {
  const auto it = characters_.find(character);
  if (it != characters_.end()) {
    symbols->push_back(it->second);
  } else if (unknown_id_) {
    symbols->push_back(*unknown_id_);
  } else {
    for (char byte : character) {
      symbols->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
    }
  }
}

}  // namespace sinklora
