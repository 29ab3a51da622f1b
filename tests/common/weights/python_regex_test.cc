// SPDX-License-Identifier: Apache-2.0
#include "common/weights/python_regex.h"

#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr char kModule[] = "model.layers.11.self_attn.q_proj";

bool Full(const char* pattern) {
  auto regex = PythonRegex::Create(pattern);
  EXPECT_OK(regex);
  return regex.ok() && regex->FullMatch(kModule).value();
}

TEST(PythonRegexTest, FullMatchTakesTheWholeName) {
  EXPECT_TRUE(Full(".*q_proj"));
  EXPECT_TRUE(Full("model\\.layers\\.(1|11)\\.self_attn\\.[qk]_proj"));
  EXPECT_TRUE(Full("model|.*proj"));  // tries the other branch, as Python does
  EXPECT_TRUE(Full("(?i)MODEL.*"));
  EXPECT_TRUE(Full("(?P<a>model).*(?!x)\\w+\\Z"));
  EXPECT_FALSE(Full("q_proj"));
  EXPECT_FALSE(Full("model"));
  EXPECT_FALSE(Full(".*layers\\.1\\..*"));
  EXPECT_FALSE(Full(""));
}

TEST(PythonRegexTest, MatchStartsAtTheStart) {
  ASSERT_OK_AND_ASSIGN(const PythonRegex start, PythonRegex::Create("model"));
  EXPECT_TRUE(start.Match(kModule).value());
  ASSERT_OK_AND_ASSIGN(const PythonRegex end,
                       PythonRegex::Create("(.*\\.)?(q_proj)$"));
  EXPECT_TRUE(end.Match(kModule).value());
  EXPECT_FALSE(end.Match("model.xq_proj").value());
  ASSERT_OK_AND_ASSIGN(const PythonRegex middle, PythonRegex::Create("layers"));
  EXPECT_FALSE(middle.Match(kModule).value());
}

TEST(PythonRegexTest, NamedGroup) {
  ASSERT_OK_AND_ASSIGN(const PythonRegex regex,
                       PythonRegex::Create(".*?\\.[^.]*\\.(?P<idx>\\d+)\\."));
  EXPECT_EQ(regex.MatchGroup(kModule, "idx").value(), "11");
  EXPECT_EQ(regex.MatchGroup("lm_head", "idx").value(), std::nullopt);
}

TEST(PythonRegexTest, RefusesWhatPythonReadsOtherwise) {
  for (const char* pattern :
       {"(", "a)", "[a", "a\\", "*a", "(*ACCEPT)", "\\Qa\\E", "\\K", "\\h",
        "(?R)", "(?1)", "(?>a)", "[[:alpha:]]", "a{,3}", "a(?i)b", "(?#x)",
        "(?|a)", "\\p{L}"}) {
    EXPECT_THAT(PythonRegex::Create(pattern).status(),
                StatusIs(kInvalid, HasSubstr("regular expression")))
        << pattern;
  }
  EXPECT_THAT(PythonRegex::Create(std::string(5000, 'a')).status(),
              StatusIs(kInvalid, HasSubstr("5000 characters")));
}

TEST(PythonRegexTest, BacktrackingIsBounded) {
  ASSERT_OK_AND_ASSIGN(const PythonRegex regex,
                       PythonRegex::Create("(([a-z]+)+)+[0-9]"));
  EXPECT_THAT(regex.FullMatch(std::string(60, 'a')).status(),
              StatusIs(kInvalid, HasSubstr("match limit")));
}

}  // namespace
}  // namespace sinklora
