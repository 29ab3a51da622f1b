// The merge rules of byte-pair encoding and their application to one word.
//
// Thread-safe once all rules are added.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_MERGE_TABLE_H_
#define SINKLORA_COMMON_TEXT_MERGE_TABLE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
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
  void Add(int32_t left, int32_t right, int32_t rank, int32_t merged) {
    const auto [it, inserted] =
        rules_.try_emplace(Key(left, right), Rule{rank, merged});
    if (!inserted && rank < it->second.rank) it->second = {rank, merged};
  }

  // Merges the symbols of a word in place until no rule applies: always the
  // pair of smallest rank, the leftmost among equals. O(n log n).
  // REQUIRES: fewer than 2^31 symbols.
  void Apply(std::vector<int32_t>* symbols, Scratch* scratch) const {
    Apply(symbols, scratch, [](int32_t, int32_t, int32_t) {});
  }
  // Also calls `consider(merged, left, right)` for every pair with a rule that
  // comes up, in the order in which they do.
  template <typename Consider>
  void Apply(std::vector<int32_t>* symbols, Scratch* scratch,
             Consider consider) const;

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

template <typename Consider>
void MergeTable::Apply(std::vector<int32_t>* symbols, Scratch* scratch,
                       Consider consider) const {
  const auto n = static_cast<int32_t>(symbols->size());
  if (n < 2) return;
  std::vector<int32_t>& ids = *symbols;
  std::vector<int32_t>& prev = scratch->prev;
  std::vector<int32_t>& next = scratch->next;
  std::vector<uint64_t>& heap = scratch->heap;
  prev.resize(n);
  next.resize(n);
  heap.clear();
  constexpr auto kSmallestFirst = std::greater<uint64_t>();

  // A heap entry is rank then position, so that its integer order is the order
  // of merging.
  const auto entry = [&](const Rule& rule, int32_t left) {
    return static_cast<uint64_t>(static_cast<uint32_t>(rule.rank)) << 32 |
           static_cast<uint32_t>(left);
  };
  for (int32_t i = 0; i < n; ++i) {
    prev[i] = i - 1;
    next[i] = i + 1 < n ? i + 1 : -1;
    if (i + 1 == n) continue;
    if (const Rule* rule = Find(ids[i], ids[i + 1])) {
      consider(rule->merged, ids[i], ids[i + 1]);
      heap.push_back(entry(*rule, i));
    }
  }
  std::make_heap(heap.begin(), heap.end(), kSmallestFirst);
  const auto push = [&](int32_t left) {
    if (left < 0 || next[left] < 0) return;
    if (const Rule* rule = Find(ids[left], ids[next[left]])) {
      consider(rule->merged, ids[left], ids[next[left]]);
      heap.push_back(entry(*rule, left));
      std::push_heap(heap.begin(), heap.end(), kSmallestFirst);
    }
  };
  constexpr int32_t kGone = -1;  // the symbol was merged into its left one
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), kSmallestFirst);
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto left = static_cast<int32_t>(top & 0xFFFFFFFFu);
    if (ids[left] == kGone || next[left] < 0) continue;
    // Entries are not removed when their symbols change: only one that still
    // describes the pair at its place counts.
    const Rule* rule = Find(ids[left], ids[next[left]]);
    if (rule == nullptr || entry(*rule, left) != top) continue;
    const int32_t right = next[left];
    ids[left] = rule->merged;
    ids[right] = kGone;
    next[left] = next[right];
    if (next[right] >= 0) prev[next[right]] = left;
    push(prev[left]);
    push(left);
  }
  std::erase(ids, kGone);
}

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_MERGE_TABLE_H_
