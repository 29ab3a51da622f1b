// SentencePiece's precompiled_charsmap: text normalization (NFKC and the like)
// as a double-array trie of byte strings and what each is replaced with.
//
// Thread-safe. The data is checked when it is read, so that lookups cannot
// leave it: nothing in a model file is trusted.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_CHARACTER_MAP_H_
#define SINKLORA_COMMON_TEXT_CHARACTER_MAP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sinklora {

class CharacterMap {
 public:
  // kInvalidArgument naming `what` when the data is cut short, a node lies
  // outside the trie, or a replacement is not UTF-8 that ends in the data.
  static absl::StatusOr<CharacterMap> Parse(std::string_view data,
                                            const std::string& what);

  struct Match {
    size_t length = 0;  // bytes of the text; 0: nothing is replaced
    std::string_view replacement;
  };
  // The longest key that starts at `i`, of at most 256 bytes.
  Match Find(std::string_view text, size_t i) const;

 private:
  CharacterMap(std::vector<uint32_t> units, std::string replacements)
      : units_(std::move(units)), replacements_(std::move(replacements)) {}
  absl::Status Check(const std::string& what) const;
  std::string_view Replacement(uint32_t value) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // each ends with NUL
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_CHARACTER_MAP_H_
