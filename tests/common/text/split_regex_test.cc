// SPDX-License-Identifier: Apache-2.0
#include "common/text/split_regex.h"

#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> SplitWith(std::string_view pattern,
                                   std::string_view text) {
  const auto split = SplitRegex::Create(pattern);
  EXPECT_OK(split);
  std::vector<std::string> pieces;
  EXPECT_OK((*split)->Split(text, [&](std::string_view piece) {
    pieces.emplace_back(piece);
    return absl::OkStatus();
  }));
  return pieces;
}

TEST(SplitRegexTest, Gpt2) {
  EXPECT_THAT(SplitWith(kGpt2Regex, "it's 12 cats,  really\n\n x "),
              ElementsAre("it", "'s", " 12", " cats", ",", " ", " really",
                          "\n\n", " x", " "));
  EXPECT_THAT(SplitWith(kGpt2Regex, ""), ElementsAre());
}

TEST(SplitRegexTest, TextBetweenMatchesIsKept) {
  EXPECT_THAT(SplitWith("\\d+", "ab12c3"), ElementsAre("ab", "12", "c", "3"));
  EXPECT_THAT(SplitWith("x*", "a\u20ACxxb"), ElementsAre("a\u20AC", "xx", "b"));
}

// U+180E is no white space since Unicode 6.3, U+0085 is.
TEST(SplitRegexTest, WhiteSpaceIsUnicodes) {
  EXPECT_THAT(SplitWith("\\s+", "a\u180Eb\u0085\u3000c"),
              ElementsAre("a\u180Eb", "\u0085\u3000", "c"));
  EXPECT_THAT(SplitWith("[\\sx]+", "ax\u0085\u180Eb"),
              ElementsAre("a", "x\u0085", "\u180Eb"));
  EXPECT_THAT(SplitWith("\\S+", "a\u180Eb c"),
              ElementsAre("a\u180Eb", " ", "c"));
}

TEST(SplitRegexTest, RefusesWhatMeansSomethingElseInPcre) {
  for (const char* pattern : {"\\w+", "a\\b", "\\h", "^a", "a$", "[a[b]]",
                              "[a&&b]", "[\\S]", "a\\"}) {
    EXPECT_THAT(SplitRegex::Create(pattern),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("not supported")))
        << pattern;
  }
  EXPECT_THAT(SplitRegex::Create("(a"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("(a")));
}

TEST(SplitRegexTest, RunawayBacktrackingIsAnError) {
  ASSERT_OK_AND_ASSIGN(const auto split, SplitRegex::Create("(a+)+x|b"));
  EXPECT_THAT(
      split->Split(std::string(64, 'a') + "y",
                   [](std::string_view) { return absl::OkStatus(); }),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("byte 0")));
}

}  // namespace
}  // namespace sinklora
