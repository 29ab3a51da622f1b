// Remembers, within one Encode call, where the ids of a word were written: the
// words of a long text repeat, their merges need not.
//
// Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_WORD_CACHE_H_
#define SINKLORA_COMMON_TEXT_WORD_CACHE_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/text/string_map.h"

namespace sinklora {

class WordCache {
 public:
  // Appends to `ids`, which nobody else may shorten meanwhile. The words' bytes
  // must outlive the cache.
  explicit WordCache(std::vector<int32_t>* ids) : ids_(ids) {}

  // Appends the ids of a word seen before; false when it is new.
  bool AppendKnown(std::string_view word) {
    const auto it = ranges_.find(word);
    if (it == ranges_.end()) return false;
    for (size_t i = 0; i < it->second.count; ++i) {
      const int32_t id = (*ids_)[it->second.begin + i];
      ids_->push_back(id);
    }
    return true;
  }
  void AppendNew(std::string_view word, const std::vector<int32_t>& word_ids) {
    if (ranges_.size() < kMaxWords) {
      ranges_[word] = {ids_->size(), word_ids.size()};
    }
    ids_->insert(ids_->end(), word_ids.begin(), word_ids.end());
  }

 private:
  // More than a language has in use; bounds the memory for other texts.
  static constexpr size_t kMaxWords = size_t{1} << 18;

  struct Range {
    size_t begin;
    size_t count;
  };
  std::vector<int32_t>* const ids_;
  StringViewMap<Range> ranges_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_WORD_CACHE_H_
