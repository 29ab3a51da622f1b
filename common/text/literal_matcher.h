// Finds tokens that are taken from a text as a whole, before any splitting.
//
// Thread-safe (immutable).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_LITERAL_MATCHER_H_
#define SINKLORA_COMMON_TEXT_LITERAL_MATCHER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/text/byte_trie.h"

namespace sinklora {

class LiteralMatcher {
 public:
  struct Match {
    size_t offset = std::string_view::npos;  // npos: none
    size_t length = 0;
    int32_t id = 0;
  };

  LiteralMatcher() : LiteralMatcher(Literals()) {}
  // Texts, none empty, and what Match.id gives for them.
  using Literals = std::vector<std::pair<std::string, int32_t>>;
  explicit LiteralMatcher(Literals literals)
      : empty_(literals.empty()), trie_(std::move(literals)) {}

  bool empty() const { return empty_; }
  // The longest match at `i`.
  Match MatchAt(std::string_view text, size_t i) const {
    Match match;
    uint32_t node = ByteTrie::kRoot;
    for (size_t at = i; at < text.size(); ++at) {
      node = trie_.Step(node, text[at]);
      if (node == ByteTrie::kNone) break;
      if (trie_.value(node) >= 0) match = {i, at + 1 - i, trie_.value(node)};
    }
    return match;
  }
  // The leftmost match at or behind `from`, the longest at its place.
  Match Find(std::string_view text, size_t from) const {
    if (empty_) return {};
    for (size_t i = from; i < text.size(); ++i) {
      const Match match = MatchAt(text, i);
      if (match.length > 0) return match;
    }
    return {};
  }

 private:
  bool empty_;
  ByteTrie trie_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_LITERAL_MATCHER_H_
