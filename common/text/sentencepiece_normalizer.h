// What SentencePiece does to a text before it looks for pieces: its
// normalizer_spec.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_SENTENCEPIECE_NORMALIZER_H_
#define SINKLORA_COMMON_TEXT_SENTENCEPIECE_NORMALIZER_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/text/character_map.h"
#include "common/text/literal_matcher.h"
#include "common/text/sentencepiece_file.h"

namespace sinklora {

class SentencePieceNormalizer {
 public:
  // kInvalidArgument naming `what` for a bad character map.
  static absl::StatusOr<SentencePieceNormalizer> Create(
      const SentencePieceFile& file, const std::string& what);

  // REQUIRES: valid UTF-8. `starts_text` is false for text that goes on from
  // what was encoded before it: then no space is put before it, and spaces at
  // its beginning are kept.
  std::string Normalize(std::string_view text, bool starts_text) const;

  // What a space becomes.
  std::string_view space() const;

 private:
  SentencePieceNormalizer() = default;
  // What stands for the text at `i`, and how many bytes of it are used.
  CharacterMap::Match Prefix(std::string_view text, size_t i) const;

  std::optional<CharacterMap> map_;
  LiteralMatcher user_defined_;  // texts that are never changed
  bool add_dummy_prefix_ = true;
  bool remove_extra_spaces_ = true;
  bool escape_spaces_ = true;
  bool spaces_as_suffix_ = false;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_SENTENCEPIECE_NORMALIZER_H_
