// SPDX-License-Identifier: Apache-2.0
#include "common/text/bpe_trainer.h"

#include <map>
#include <random>

#include "common/text/bpe_pair_counts.h"
#include "nlohmann/json.hpp"
#include "tests/common/text/test_tokenizers.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;
using Pair = BpePairCounts::Pair;
using Words = std::vector<std::pair<std::vector<int32_t>, int64_t>>;

void MergeIn(Words* words, Pair pair, int32_t merged) {
  for (auto& [symbols, count] : *words) {
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      if (Pair(symbols[i], symbols[i + 1]) != pair) continue;
      symbols[i] = merged;
      symbols.erase(symbols.begin() + i + 1);
    }
  }
}

std::optional<Pair> CountAgain(const Words& words) {
  std::map<Pair, int64_t> counts;
  for (const auto& [symbols, count] : words) {
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      counts[{symbols[i], symbols[i + 1]}] += count;
    }
  }
  std::optional<Pair> best;
  for (const auto& [pair, count] : counts) {
    if (!best || count > counts[*best]) best = pair;
  }
  return best;
}

TEST(BpePairCountsTest, EqualsCountingFromScratch) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    Words words;
    BpePairCounts counts;
    for (int w = 0; w < 20; ++w) {
      std::vector<int32_t> symbols(1 + random() % 12);
      for (int32_t& s : symbols) s = static_cast<int32_t>(random() % 3);
      const int64_t count = 1 + random() % 3;
      words.push_back({symbols, count});
      counts.AddWord(symbols, count);
    }
    for (int32_t id = 3;; ++id) {
      const std::optional<Pair> best = counts.MostFrequent();
      ASSERT_EQ(best, CountAgain(words)) << "round " << round << " id " << id;
      if (!best) break;
      counts.Merge(*best, id);
      MergeIn(&words, *best, id);
    }
  }
}

TEST(BpeTrainerTest, MergesByFrequencyThenSmallerIds) {
  BpeTrainerOptions options;
  options.special_tokens = {"<s>"};
  options.vocab_size = 260;
  // "ab" 3 times; " c", "cd" and "xy" 2 times each, of which the pair of the
  // space has the smallest id.
  ASSERT_OK_AND_ASSIGN(
      const std::string text,
      TrainByteLevelBpe({"xy cd ab", "ab cd", "ab\nxy"}, options));
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["model"]["merges"],
            nlohmann::json::array({"a b", "\u0120 c", "x y"}));
  EXPECT_EQ(json["model"]["vocab"]["<s>"], 0);
  EXPECT_EQ(json["model"]["vocab"]["ab"], 257);
  EXPECT_EQ(json["added_tokens"][0]["content"], "<s>");
  EXPECT_EQ(json["model"]["vocab"].size(), 260u);
}

TEST(BpeTrainerTest, EqualInputsGiveEqualBytes) {
  EXPECT_EQ(testing::SmallTokenizerJson(), testing::SmallTokenizerJson());
}

TEST(BpeTrainerTest, BadOptionsAreNamed) {
  BpeTrainerOptions options;
  options.vocab_size = 257;
  EXPECT_THAT(TrainByteLevelBpe({"x"}, options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("vocab_size is 257, must be at least 258")));
  options.vocab_size = 300;
  EXPECT_THAT(TrainByteLevelBpe({"abc"}, options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("yield only 260 tokens")));
  EXPECT_THAT(TrainByteLevelBpe({"ok", "a\xFF"}, options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("text 1 is not valid UTF-8 at offset 1")));
  options.special_tokens = {"<s>", "<s>"};
  EXPECT_THAT(TrainByteLevelBpe({"x"}, options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("<s>")));
}

}  // namespace
}  // namespace sinklora
