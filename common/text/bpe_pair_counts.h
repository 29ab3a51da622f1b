// Counts of neighbouring symbols over a list of words, kept up to date while
// pairs are merged: the inner loop of training a BPE vocabulary.
//
// Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_BPE_PAIR_COUNTS_H_
#define SINKLORA_COMMON_TEXT_BPE_PAIR_COUNTS_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

namespace sinklora {

class BpePairCounts {
 public:
  using Pair = std::pair<int32_t, int32_t>;

  // A word that occurs `count` times. All words come before the first merge.
  void AddWord(std::vector<int32_t> symbols, int64_t count);
  // The most frequent pair, the smaller one among equals; nullopt when no word
  // has two symbols left.
  std::optional<Pair> MostFrequent();
  // Replaces the pair by `merged` in every word, from left to right.
  void Merge(Pair pair, int32_t merged);

 private:
  struct Word {
    std::vector<int32_t> symbols;
    int64_t count;
  };
  struct Occurrences {
    int64_t count = 0;
    // Words that have, or once had, the pair; may name a word twice.
    std::vector<uint32_t> words;
  };
  struct Candidate {
    int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  void CountPairs(uint32_t word, int64_t sign);

  std::vector<Word> words_;
  absl::flat_hash_map<Pair, Occurrences> pairs_;
  absl::flat_hash_set<Pair> changed_;  // since candidates were last pushed
  // A max-heap. A pair may stand in it with counts it had before: only the
  // entry with the present count is valid.
  std::vector<Candidate> heap_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_BPE_PAIR_COUNTS_H_
