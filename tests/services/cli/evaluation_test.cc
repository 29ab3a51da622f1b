// The measures as pure functions.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "services/cli/passkey_prompt.h"
#include "services/cli/perplexity_windows.h"
#include "services/cli/token_documents.h"

namespace sinklora::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(StridedWindowsTest, EveryTargetOnceWithEnoughContext) {
  for (const int64_t tokens : {0, 1, 2, 3, 15, 16, 17, 31, 32, 100, 257}) {
    for (const int64_t context : {2, 3, 16, 64}) {
      for (const int64_t stride : {int64_t{1}, context / 2, context - 1}) {
        std::vector<int> scored(static_cast<size_t>(tokens), 0);
        for (const auto& window : StridedWindows(tokens, context, stride)) {
          EXPECT_LE(window.end - window.begin, context);
          EXPECT_GE(window.score_from, 1);
          EXPECT_GE(window.targets(), 1);
          for (int64_t t = window.begin + window.score_from; t < window.end;
               ++t) {
            ++scored[static_cast<size_t>(t)];
            EXPECT_GE(t - window.begin, std::min(t, context - stride));
          }
        }
        for (size_t t = 0; t < scored.size(); ++t) {
          EXPECT_EQ(scored[t], t == 0 ? 0 : 1)
              << t << " of " << tokens << ", " << context << ", " << stride;
        }
      }
    }
  }
}

TEST(LongLoraWindowsTest, DropsTheLastWindow) {
  const auto windows = LongLoraWindows(100, 32, 16);
  ASSERT_EQ(windows.size(),
            4u);  // starts 0, 16, 32, 48, and 64 that is dropped
  EXPECT_EQ(windows.back().begin, 48);
  EXPECT_EQ(windows.back().end, 80);
  EXPECT_EQ(windows.back().score_from, 1);
  EXPECT_TRUE(LongLoraWindows(32, 32, 16).empty());
  EXPECT_TRUE(LongLoraWindows(33, 32, 16).empty());
}

TEST(PasskeyTest, PromptHidesTheKeyAtItsDepth) {
  const std::string prompt = PasskeyPrompt(12345, 1000, 0.25);
  EXPECT_THAT(prompt, StartsWith("There is an important info hidden"));
  EXPECT_THAT(
      prompt,
      HasSubstr(
          "\nThe pass key is 12345. Remember it. 12345 is the pass key.\n"));
  EXPECT_TRUE(prompt.ends_with(kPasskeyQuestion));
  const size_t task = prompt.find('\n') + 1;
  EXPECT_EQ(prompt.find("\nThe pass key is 12345") - task, 250u);
  EXPECT_EQ(PasskeyPrompt(1, 1000, 0).size(), PasskeyPrompt(1, 1000, 1).size());
}

TEST(PasskeyTest, KeysAreFixedBySeedAndTrial) {
  std::set<int64_t> keys;
  for (int64_t trial = 0; trial < 50; ++trial) {
    const int64_t key = PasskeyOf(0, trial);
    EXPECT_EQ(key, PasskeyOf(0, trial));
    EXPECT_GE(key, 1);
    EXPECT_LT(key, 50'000);
    keys.insert(key);
  }
  EXPECT_GT(keys.size(), 45u);
}

TEST(PasskeyTest, OnlyTheExactKeyCounts) {
  EXPECT_TRUE(IsPasskey(" 417", 417));
  EXPECT_TRUE(IsPasskey("417", 417));
  EXPECT_FALSE(IsPasskey("4170", 417));
  EXPECT_FALSE(IsPasskey("41", 417));
  EXPECT_FALSE(IsPasskey("", 417));
}

TEST(SplitTextTest, CutsAtLinesAndNeverInsideCharacters) {
  EXPECT_THAT(SplitText("", 4), ElementsAre());
  EXPECT_THAT(SplitText("ab\ncd\nef", 6), ElementsAre("ab\ncd\n", "ef"));
  EXPECT_THAT(SplitText("abcdefg", 3), ElementsAre("abc", "def", "g"));
  EXPECT_THAT(SplitText("aééé", 4), ElementsAre("aé", "éé"));
}

}  // namespace
}  // namespace sinklora::cli
