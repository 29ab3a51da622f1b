// The choice of the victim, ties included, against a literal definition.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/eviction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace sinklora::internal {
namespace {

// Evicts one after the other by scanning positions from the oldest.
std::vector<int32_t> LiteralKept(const EvictionRule& rule,
                                 std::map<int32_t, float> score, int64_t latest,
                                 int64_t budget) {
  while (static_cast<int64_t>(score.size()) > budget) {
    // Out of sight for every query from the next one on: gone before any other.
    if (rule.window > 0 && score.begin()->first <= latest + 1 - rule.window) {
      score.erase(score.begin());
      continue;
    }
    auto victim = score.end();
    for (auto it = score.begin(); it != score.end(); ++it) {
      if (it->first < rule.sink_tokens ||
          it->first > latest - rule.recent_tokens) {
        continue;
      }
      if (victim == score.end() || it->second < victim->second) victim = it;
    }
    if (victim == score.end()) break;
    score.erase(victim);
  }
  std::vector<int32_t> out;
  for (const auto& [position, s] : score) out.push_back(position);
  return out;
}

TEST(EvictionTest, LowestScoreThenOlderPosition) {
  const std::vector<int32_t> positions = {5, 0, 3, -1, 2, 4, 1};
  const std::vector<float> scores = {.1f, .1f, .5f, 0.f, .5f, .5f, .9f};
  const CacheHead head{positions, scores};
  const auto kept = [&](const EvictionRule& rule, int64_t budget) {
    return ChooseKept(rule, head, 5, budget);
  };
  using Slots = std::vector<int32_t>;
  EXPECT_EQ(kept({0, 0}, 5), (Slots{0, 2, 4, 5, 6}));     // 0 and 5 tie
  EXPECT_EQ(kept({1, 0}, 5), (Slots{1, 2, 4, 5, 6}));     // 0 is a sink
  EXPECT_EQ(kept({1, 1}, 5), (Slots{0, 1, 2, 5, 6}));     // 2, 3, 4 tie
  EXPECT_EQ(kept({3, 3}, 5), (Slots{0, 1, 2, 4, 5, 6}));  // all are protected
  EXPECT_EQ(ChooseKept({0, 0}, {positions, {}}, 5, 5),
            (Slots{0, 2, 4, 5, 6}));  // the oldest goes
}

TEST(EvictionTest, WhatTheWindowWillNotShowAgainGoesFirst) {
  const std::vector<int32_t> positions = {5, 0, 3, -1, 2, 4, 1};
  const std::vector<float> scores = {.1f, .9f, .2f, 0.f, .5f, .5f, .3f};
  const CacheHead head{positions, scores};
  using Slots = std::vector<int32_t>;
  // Query 6 sees [3, 6]: 0 to 2 are dead, sinks or not.
  EXPECT_EQ(ChooseKept({2, 1, 4}, head, 5, 5), (Slots{0, 2, 4, 5, 6}));
  EXPECT_EQ(ChooseKept({2, 1, 4}, head, 5, 4), (Slots{0, 2, 4, 5}));
  EXPECT_EQ(ChooseKept({2, 1, 4}, head, 5, 2), (Slots{0, 5}));
  // Sees [1, 6], then all.
  EXPECT_EQ(ChooseKept({0, 6, 6}, head, 5, 5), (Slots{0, 2, 4, 5, 6}));
  EXPECT_EQ(ChooseKept({0, 6, 7}, head, 5, 5), (Slots{0, 1, 2, 4, 5, 6}));
}

TEST(EvictionTest, BulkEqualsOneByOneOnRandomScoresWithTies) {
  std::mt19937_64 bits(1);
  for (int trial = 0; trial < 300; ++trial) {
    const int64_t tokens = 2 + static_cast<int64_t>(bits() % 30);
    const int64_t budget = 1 + static_cast<int64_t>(bits() % tokens);
    EvictionRule rule;
    rule.recent_tokens = static_cast<int64_t>(bits() % budget);
    rule.sink_tokens =
        static_cast<int64_t>(bits() % (budget - rule.recent_tokens + 1));
    if (trial % 2 == 1) {
      rule.window = 1 + static_cast<int64_t>(bits() % (tokens + 3));
    }
    std::vector<int32_t> positions(static_cast<size_t>(tokens));
    std::vector<float> scores;
    std::map<int32_t, float> by_position;
    for (int64_t i = 0; i < tokens; ++i) {
      positions[i] = static_cast<int32_t>(i);
    }
    std::shuffle(positions.begin(), positions.end(), bits);
    for (const int32_t p : positions) {
      scores.push_back(static_cast<float>(bits() % 4));  // many ties
      by_position[p] = scores.back();
    }
    const CacheHead head{positions, scores};
    std::vector<int32_t> kept;
    for (const int32_t slot : ChooseKept(rule, head, tokens - 1, budget)) {
      kept.push_back(positions[slot]);
    }
    std::sort(kept.begin(), kept.end());
    EXPECT_EQ(kept, LiteralKept(rule, by_position, tokens - 1, budget));
  }
}

}  // namespace
}  // namespace sinklora::internal
