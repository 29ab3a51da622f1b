// BPE over characters, as SentencePiece does it (Llama 1 and 2, Mistral):
// neighbours merge by the rank of what they make, characters without a token
// become their UTF-8 bytes or the unknown token.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_CHARACTER_BPE_H_
#define SINKLORA_COMMON_TEXT_CHARACTER_BPE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/text/literal_matcher.h"
#include "common/text/merge_table.h"
#include "common/text/string_map.h"
#include "common/text/word_bounds.h"

namespace sinklora {

struct CharacterBpeOptions {
  explicit CharacterBpeOptions(WordBounds bounds) : words(std::move(bounds)) {
    byte_ids.fill(-1);
  }

  MergeTable merges;
  StringMap<int32_t> characters;  // symbols of one character
  // Characters that are no token but parts of tokens: their symbols, from
  // first_virtual_id on.
  int32_t first_virtual_id = INT32_MAX;
  std::vector<std::string> virtual_characters;
  // Either bytes or the unknown token stand for other characters.
  std::array<int32_t, 256> byte_ids;  // -1: none
  std::optional<int32_t> unknown_id;
  bool fuse_unknown = true;  // one for a run of unknown characters
  // Taken whole from the text, never merged.
  LiteralMatcher literals;
  WordBounds words;
  // By id; tokens that merging goes through but that are taken apart again at
  // the end. Empty: none.
  std::vector<bool> unused;
};

class CharacterBpe {
 public:
  explicit CharacterBpe(CharacterBpeOptions options)
      : options_(std::move(options)) {}

  // Appends the ids of `text`, valid UTF-8 of less than 2^31 bytes with its
  // spaces marked. O(n log n).
  void Encode(std::string_view text, std::vector<int32_t>* ids) const;

 private:
  using Halves = std::vector<std::pair<int32_t, int32_t>>;  // by id

  void EncodeSegment(std::string_view text, std::vector<int32_t>* ids) const;
  void EncodeWord(std::string_view word, MergeTable::Scratch* scratch,
                  std::vector<int32_t>* symbols) const;
  // Replaces virtual symbols and unused tokens.
  void Resolve(const Halves& halves, std::vector<int32_t>* symbols) const;
  void AppendUnknown(std::string_view character,
                     std::vector<int32_t>* ids) const;

  const CharacterBpeOptions options_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_CHARACTER_BPE_H_
