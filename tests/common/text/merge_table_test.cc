// SPDX-License-Identifier: Apache-2.0
#include "common/text/merge_table.h"

#include <map>
#include <random>

#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

struct Rule {
  int32_t rank;
  int32_t merged;
};
using Rules = std::map<std::pair<int32_t, int32_t>, Rule>;

// The definition, word for word.
std::vector<int32_t> MergeNaively(const Rules& rules,
                                  std::vector<int32_t> ids) {
  while (true) {
    int32_t best_rank = INT32_MAX;
    size_t best = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto it = rules.find({ids[i], ids[i + 1]});
      if (it != rules.end() && it->second.rank < best_rank) {
        best_rank = it->second.rank;
        best = i;
      }
    }
    if (best_rank == INT32_MAX) return ids;
    ids[best] = rules.at({ids[best], ids[best + 1]}).merged;
    ids.erase(ids.begin() + best + 1);
  }
}

TEST(MergeTableTest, EqualsTheDefinitionOnRandomRules) {
  std::mt19937 random(7);
  const auto below = [&](int n) { return static_cast<int32_t>(random() % n); };
  for (int round = 0; round < 300; ++round) {
    Rules rules;
    MergeTable table;
    int32_t next_id = 4;
    for (int i = 0; i < 30; ++i) {
      const std::pair<int32_t, int32_t> pair(below(next_id), below(next_id));
      // Few ranks, so that ties are frequent.
      const Rule rule{below(8), next_id};
      if (!rules.try_emplace(pair, rule).second) continue;
      table.Add(pair.first, pair.second, rule.rank, rule.merged);
      ++next_id;
    }
    std::vector<int32_t> word(below(60));
    for (int32_t& id : word) id = below(4);
    std::vector<int32_t> merged = word;
    MergeTable::Scratch scratch;
    table.Apply(&merged, &scratch);
    ASSERT_EQ(merged, MergeNaively(rules, word)) << "round " << round;
  }
}

TEST(MergeTableTest, KeepsTheSmallerRankOfAPair) {
  MergeTable table;
  table.Add(0, 1, 5, 10);
  table.Add(0, 1, 2, 11);
  table.Add(0, 1, 9, 12);
  std::vector<int32_t> ids = {0, 1};
  MergeTable::Scratch scratch;
  table.Apply(&ids, &scratch);
  EXPECT_EQ(ids, std::vector<int32_t>{11});
}

}  // namespace
}  // namespace sinklora
