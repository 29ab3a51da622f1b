// Tokens that a tokenizer takes from a text as a whole before its model sees
// it: special ones, and others that were added to a vocabulary.
//
// Thread-safe (immutable).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_ADDED_TOKENS_H_
#define SINKLORA_COMMON_TEXT_ADDED_TOKENS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/text/literal_matcher.h"

namespace sinklora {

struct AddedToken {
  int64_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   // looked for in the normalized text
  bool single_word = false;  // only where no word goes on before or behind it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and behind it
};

class AddedTokenMatcher {
 public:
  struct Part {
    std::string_view text;
    int32_t id;  // -1: text without added tokens
  };

  AddedTokenMatcher() = default;
  // `patterns[i]` is what tokens[i] looks like in the texts.
  AddedTokenMatcher(std::vector<AddedToken> tokens,
                    std::vector<std::string> patterns);

  // Calls `part(Part)` for each part of `text`, valid UTF-8, in order: text and
  // tokens, the leftmost first and the longest at its place. The text of a
  // special token is text unless `parse_special`; as in the tokenizers library,
  // no other token is looked for inside of it.
  template <typename Consume>
  void Split(std::string_view text, bool parse_special, Consume consume) const {
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
      const LiteralMatcher::Match match = matcher_.Find(text, at);
      if (match.length == 0) break;
      at = match.offset + match.length;
      const AddedToken& token = tokens_[match.id];
      if (token.special && !parse_special) continue;
      if (token.single_word && !StandsAlone(text, match.offset, at)) continue;
      const size_t begin =
          token.lstrip ? SpaceBefore(text, match.offset, done) : match.offset;
      const size_t end = token.rstrip ? SpaceBehind(text, at) : at;
      if (begin > done) consume(Part{text.substr(done, begin - done), -1});
      consume(Part{text.substr(begin, end - begin),
                   static_cast<int32_t>(token.id)});
      done = at = end;
    }
    if (done < text.size()) consume(Part{text.substr(done), -1});
  }

 private:
  static bool StandsAlone(std::string_view text, size_t begin, size_t end);
  // Where the white space before `begin` starts, at least `least`.
  static size_t SpaceBefore(std::string_view text, size_t begin, size_t least);
  static size_t SpaceBehind(std::string_view text, size_t end);

  std::vector<AddedToken> tokens_;
  LiteralMatcher matcher_;  // gives indices into tokens_
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_ADDED_TOKENS_H_
