// BPE over characters with byte fallback, as SentencePiece does it (Llama 1 and
// 2): the whole text is one word, spaces are the character U+2581, characters
// without a token become their UTF-8 bytes.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_CHARACTER_TOKENIZER_H_
#define SINKLORA_COMMON_TEXT_CHARACTER_TOKENIZER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/text/literal_matcher.h"
#include "common/text/merge_table.h"
#include "common/text/string_map.h"
#include "common/text/vocab_tokenizer.h"

namespace sinklora {

struct CharacterOptions {
  // Whether a space is put before the text.
  enum class Prefix { kNever, kIfMissing, kAlways };

  CharacterOptions() { byte_ids.fill(-1); }

  Vocabulary vocabulary;
  MergeTable merges;
  StringMap<int32_t> characters;      // tokens of one character
  std::array<int32_t, 256> byte_ids;  // -1: none
  // For characters without a token, one for each run of them; when absent
  // they become bytes.
  std::optional<int32_t> unknown_id;
  // Tokens taken whole from the normalized text, never merged.
  LiteralMatcher literals;
  Prefix prefix = Prefix::kAlways;
  bool remove_extra_spaces = false;  // at both ends, and runs to one
  bool escape_spaces = true;         // as U+2581
  // No token has a space behind another character, so words can be merged one
  // by one with the same result. Kept by AddCharacterToken.
  bool splits_at_space = true;
};

// Adds an ordinary or a byte token ("<0x41>") by its text in the vocabulary.
// `escaped`: U+2581 stands for a space.
absl::Status AddCharacterToken(std::string_view text, int64_t id, bool escaped,
                               CharacterOptions* options,
                               VocabularyBuilder* builder);
// The byte that "<0x41>" stands for.
std::optional<uint8_t> ParseByteToken(std::string_view text);
// kInvalidArgument when a byte has no token.
absl::Status CheckByteTokens(const CharacterOptions& options,
                             const std::string& what);

class CharacterTokenizer : public VocabTokenizer {
 public:
  explicit CharacterTokenizer(CharacterOptions options);

 protected:
  absl::StatusOr<std::vector<int32_t>> EncodeValid(
      std::string_view text) const override;

 private:
  std::string Normalize(std::string_view text) const;
  void EncodeSegment(std::string_view text, std::vector<int32_t>* ids) const;
  // End of the word of `text` that starts at `begin`.
  size_t WordEnd(std::string_view text, size_t begin) const;
  void AppendCharacter(std::string_view character,
                       std::vector<int32_t>* symbols) const;

  const MergeTable merges_;
  const StringMap<int32_t> characters_;
  const std::array<int32_t, 256> byte_ids_;
  const std::optional<int32_t> unknown_id_;
  const LiteralMatcher literals_;
  const CharacterOptions::Prefix prefix_;
  const bool remove_extra_spaces_;
  const std::string space_;  // what a space becomes
  const bool splits_at_space_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_CHARACTER_TOKENIZER_H_
