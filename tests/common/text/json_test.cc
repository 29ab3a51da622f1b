// SPDX-License-Identifier: Apache-2.0
#include "common/text/json.h"

#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(JsonTest, RefusesMalformedText) {
  EXPECT_THAT(
      ParseJsonObject("{\"a\": }", "f.json"),
      StatusIs(kInvalid, AllOf(HasSubstr("f.json"), HasSubstr("column"))));
  EXPECT_THAT(ParseJsonObject("[1]", "f.json"),
              StatusIs(kInvalid, HasSubstr("[1]")));
  EXPECT_THAT(ParseJsonObject("", "f.json"), StatusIs(kInvalid));
  EXPECT_THAT(ParseJsonObject("{\"a\": \"\xFF\"}", "f.json"),
              StatusIs(kInvalid));
  EXPECT_THAT(ParseJsonObject("{\"a\": 1e999}", "f.json"), StatusIs(kInvalid));
  EXPECT_THAT(ParseJsonObject("{\"a\": {\"b\": 1, \"b\": 2}}", "f.json"),
              StatusIs(kInvalid, HasSubstr("duplicate key \"b\"")));
}

TEST(JsonTest, LimitsNesting) {
  const std::string deep =
      "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_THAT(ParseJsonObject(deep, "f.json"),
              StatusIs(kInvalid, HasSubstr("64 levels")));
}

TEST(JsonTest, FieldsAreTyped) {
  ASSERT_OK_AND_ASSIGN(
      const auto object,
      ParseJsonObject(
          R"({"s": "x", "n": null, "i": 7, "big": 18446744073709551615,
              "f": 1.5, "b": true})",
          "f.json"));
  EXPECT_EQ(GetString(object, "s", "f").value(), "x");
  EXPECT_EQ(GetString(object, "n", "f").value(), std::nullopt);
  EXPECT_EQ(GetString(object, "absent", "f").value(), std::nullopt);
  EXPECT_EQ(GetInt(object, "i", 0, 7, "f").value(), 7);
  EXPECT_EQ(GetNumber(object, "f", "f").value(), 1.5);
  EXPECT_EQ(GetBool(object, "b", "f").value(), true);
  EXPECT_THAT(
      GetInt(object, "i", 0, 6, "f.json"),
      StatusIs(kInvalid, HasSubstr("f.json: i is 7, must be in [0, 6]")));
  EXPECT_THAT(GetInt(object, "big", 0, INT64_MAX, "f"),
              StatusIs(kInvalid, HasSubstr("18446744073709551615")));
  EXPECT_THAT(GetInt(object, "f", 0, 9, "f"), StatusIs(kInvalid));
  EXPECT_THAT(GetBool(object, "i", "f"),
              StatusIs(kInvalid, HasSubstr("i is 7")));
}

}  // namespace
}  // namespace sinklora
