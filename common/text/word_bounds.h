// Where a text with marked spaces may be cut so that its parts can be encoded
// one by one with the same result: where no token of the vocabulary reaches
// across.
//
// Thread-safe (plain data).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_WORD_BOUNDS_H_
#define SINKLORA_COMMON_TEXT_WORD_BOUNDS_H_

#include <algorithm>
#include <string>
#include <string_view>

namespace sinklora {

class WordBounds {
 public:
  enum class Cut {
    kNowhere,
    kBeforeSpaces,    // between a character and the spaces behind it
    kAfterSpaces,     // between spaces and the character behind them
    kBeforeEachSpace  // also between spaces
  };

  explicit WordBounds(std::string space) : space_(std::move(space)) {}
  WordBounds(std::string space, Cut cut)
      : space_(std::move(space)), cut_(cut), fixed_(true) {}

  // Takes note of a token's text, so that cut() never cuts it.
  void AddToken(std::string_view text) {
    if (fixed_) return;
    bool space_behind = false;  // a space behind another character
    bool space_before = false;  // another character behind a space
    bool last_is_space = false;
    for (size_t i = 0; i < text.size();) {
      const bool is_space = text.substr(i).starts_with(space_);
      if (i > 0 && is_space && !last_is_space) space_behind = true;
      if (i > 0 && !is_space && last_is_space) space_before = true;
      last_is_space = is_space;
      i += is_space ? space_.size() : 1;
    }
    may_cut_before_ &= !space_behind;
    may_cut_after_ &= !space_before;
    cut_ = may_cut_before_  ? Cut::kBeforeSpaces
           : may_cut_after_ ? Cut::kAfterSpaces
                            : Cut::kNowhere;
  }
  void CutNowhere() {
    cut_ = Cut::kNowhere;
    fixed_ = true;
  }

  // End of the word of `text` that begins at `begin`.
  size_t WordEnd(std::string_view text, size_t begin) const {
    if (cut_ == Cut::kNowhere) return text.size();
    size_t i = begin;
    if (cut_ == Cut::kBeforeEachSpace) {
      if (StartsWithSpace(text, i)) i += space_.size();
    } else if (cut_ == Cut::kBeforeSpaces) {
      while (StartsWithSpace(text, i)) i += space_.size();
    }
    i = std::min(text.find(space_, i), text.size());
    if (cut_ == Cut::kAfterSpaces) {
      while (StartsWithSpace(text, i)) i += space_.size();
    }
    return i;
  }

 private:
  bool StartsWithSpace(std::string_view text, size_t i) const {
    return text.compare(i, space_.size(), space_) == 0;
  }

  std::string space_;
  Cut cut_ = Cut::kBeforeSpaces;
  bool fixed_ = false;
  bool may_cut_before_ = true;
  bool may_cut_after_ = true;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_WORD_BOUNDS_H_
