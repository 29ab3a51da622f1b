// SPDX-License-Identifier: Apache-2.0
#include "services/inference/stop_matcher.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sinklora::inference {
namespace {

TEST(StopMatcherTest, PassesTextWithoutStopStringsThrough) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Append("abc"), "abc");
  EXPECT_EQ(matcher.Finish(), "");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcherTest, CutsTheTextAtTheStopString) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.Append("one END two"), "one ");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.Append("more"), "");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, HoldsBackWhatMayBecomeAStopString) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.Append("one E"), "one ");
  EXPECT_EQ(matcher.Append("N"), "");
  EXPECT_EQ(matcher.Append("D"), "");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcherTest, ReleasesWhatTurnedOutHarmless) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.Append("EN"), "");
  EXPECT_EQ(matcher.Append("E"), "EN");
  EXPECT_EQ(matcher.Finish(), "E");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcherTest, TheEarliestStopStringWins) {
  StopMatcher matcher({"later", "two"});
  EXPECT_EQ(matcher.Append("one two later"), "one ");
}

TEST(StopMatcherTest, HoldsBackWholeCharacters) {
  // e-acute and e-grave share their first byte.
  StopMatcher matcher({"\u00e9!"});
  EXPECT_EQ(matcher.Append("\u00e8"), "\u00e8");
  EXPECT_EQ(matcher.Append("\u00e9"), "");
  EXPECT_EQ(matcher.Append("?"), "\u00e9?");
}

// However a text is cut into pieces, the same comes out.
TEST(StopMatcherTest, CuttingTheTextDoesNotMatter) {
  const std::string text = "aabaabaac and aabab then the rest";
  const std::vector<std::string> stop = {"aabab", "zzz"};
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    StopMatcher matcher(stop);
    std::string out;
    for (size_t i = 0; i < text.size(); i += piece) {
      out += matcher.Append(text.substr(i, piece));
    }
    out += matcher.Finish();
    EXPECT_EQ(out, "aabaabaac and ") << "pieces of " << piece;
  }
}

}  // namespace
}  // namespace sinklora::inference
