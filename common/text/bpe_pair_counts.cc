// SPDX-License-Identifier: Apache-2.0
#include "common/text/bpe_pair_counts.h"

#include <algorithm>

namespace sinklora {

void BpePairCounts::CountPairs(uint32_t word, int64_t sign) {
  const std::vector<int32_t>& symbols = words_[word].symbols;
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    const Pair pair(symbols[i], symbols[i + 1]);
    Occurrences& occurrences = pairs_[pair];
    occurrences.count += sign * words_[word].count;
    if (sign > 0 &&
        (occurrences.words.empty() || occurrences.words.back() != word)) {
      occurrences.words.push_back(word);
    }
    changed_.insert(pair);
  }
}

void BpePairCounts::AddWord(std::vector<int32_t> symbols, int64_t count) {
  words_.push_back({std::move(symbols), count});
  CountPairs(static_cast<uint32_t>(words_.size() - 1), +1);
}

std::optional<BpePairCounts::Pair> BpePairCounts::MostFrequent() {
  for (const Pair& pair : changed_) {
    const int64_t count = pairs_[pair].count;
    if (count == 0) {
      pairs_.erase(pair);
      continue;
    }
    heap_.push_back({count, pair});
    std::push_heap(heap_.begin(), heap_.end());
  }
  changed_.clear();
  while (!heap_.empty()) {
    const Candidate top = heap_.front();
    const auto it = pairs_.find(top.pair);
    if (it != pairs_.end() && it->second.count == top.count) return top.pair;
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
  }
  return std::nullopt;
}

void BpePairCounts::Merge(Pair pair, int32_t merged) {
  const std::vector<uint32_t> words = std::move(pairs_[pair].words);
  for (uint32_t index : words) {
    std::vector<int32_t>& symbols = words_[index].symbols;
    std::vector<int32_t> shorter;
    for (size_t i = 0; i < symbols.size(); ++i) {
      const bool matches = i + 1 < symbols.size() && symbols[i] == pair.first &&
                           symbols[i + 1] == pair.second;
      shorter.push_back(matches ? merged : symbols[i]);
      if (matches) ++i;
    }
    if (shorter.size() == symbols.size()) continue;
    CountPairs(index, -1);
    symbols = std::move(shorter);
    CountPairs(index, +1);
  }
}

}  // namespace sinklora
