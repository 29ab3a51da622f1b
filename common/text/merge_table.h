// The merge rules of byte-pair encoding and their application to one word.
//
// Thread-safe once all rules are added.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_MERGE_TABLE_H_
#define SINKLORA_COMMON_TEXT_MERGE_TABLE_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace sinklora {

class MergeTable {
 public:
  // Buffers of Apply, to be reused from word to word.
  struct Scratch {
    std::vector<int32_t> prev;
    std::vector<int32_t> next;
    std::vector<uint64_t> heap;
  };

  void Reserve(size_t rules) { rules_.reserve(rules); }
  // `left` followed by `right` may become `merged`; the smallest rank goes
  // first. A pair that has a rule keeps the one of smaller rank. Ids and ranks
  // are not negative.
  void Add(int32_t left, int32_t right, int32_t rank, int32_t merged);

  // Merges the symbols of a word in place until no rule applies: always the
  // pair of smallest rank, the leftmost among equals. O(n log n).
  // REQUIRES: fewer than 2^31 symbols.
  void Apply(std::vector<int32_t>* symbols, Scratch* scratch) const;

 private:
  struct Rule {
    int32_t rank;
    int32_t merged;
  };
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 |
           static_cast<uint32_t>(right);
  }
  const Rule* Find(int32_t left, int32_t right) const {
    const auto it = rules_.find(Key(left, right));
    return it == rules_.end() ? nullptr : &it->second;
  }
  absl::flat_hash_map<uint64_t, Rule> rules_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_MERGE_TABLE_H_
