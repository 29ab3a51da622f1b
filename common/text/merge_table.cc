// SPDX-License-Identifier: Apache-2.0
#include "common/text/merge_table.h"

#include <algorithm>
#include <functional>

namespace sinklora {

void MergeTable::Add(int32_t left, int32_t right, int32_t rank,
                     int32_t merged) {
  const auto [it, inserted] =
      rules_.try_emplace(Key(left, right), Rule{rank, merged});
  if (!inserted && rank < it->second.rank) it->second = {rank, merged};
}

void MergeTable::Apply(std::vector<int32_t>* symbols, Scratch* scratch) const {
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
      heap.push_back(entry(*rule, i));
    }
  }
  std::make_heap(heap.begin(), heap.end(), kSmallestFirst);
  const auto push = [&](int32_t left) {
    if (left < 0 || next[left] < 0) return;
    if (const Rule* rule = Find(ids[left], ids[next[left]])) {
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
