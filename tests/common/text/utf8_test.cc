// SPDX-License-Identifier: Apache-2.0
#include "common/text/utf8.h"

#include <gtest/gtest.h>

#include "common/text/byte_alphabet.h"

namespace sinklora {
namespace {

constexpr size_t kValid = std::string_view::npos;

TEST(Utf8Test, EveryCodePointSurvives) {
  std::string all;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    AppendUtf8(c, &all);
  }
  ASSERT_EQ(FindInvalidUtf8(all), kValid);
  size_t offset = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    ASSERT_EQ(DecodeUtf8(all, &offset), c);
  }
  EXPECT_EQ(offset, all.size());
}

TEST(Utf8Test, FindsTheFirstInvalidByte) {
  struct Case {
    std::string text;
    size_t offset;
  };
  for (const Case& c :
       {Case{"", kValid}, Case{"ab\xC3\xA4", kValid}, Case{"a\x80", 1},
        Case{"\xC0\x80", 0}, Case{"\xC1\xBF", 0}, Case{"x\xE0\x9F\xBF", 1},
        Case{"\xED\xA0\x80", 0}, Case{"\xF0\x8F\xBF\xBF", 0},
        Case{"\xF4\x90\x80\x80", 0}, Case{"\xF5\x80\x80\x80", 0},
        Case{"ab\xE2\x82", 2},
        Case{"\xE2\x82"
             "a",
             0},
        Case{"\xFF", 0}, Case{std::string("a\0b", 3), kValid}}) {
    EXPECT_EQ(FindInvalidUtf8(c.text), c.offset) << c.text;
  }
}

TEST(Utf8Test, IncompleteIsTheStartOfOneCharacter) {
  for (const char* text :
       {"\xC3", "\xE2", "\xE2\x82", "\xF0", "\xF0\x9F\x98"}) {
    EXPECT_TRUE(IsIncompleteUtf8(text)) << text;
  }
  for (const char* text : {"", "a", "\x80", "\xC3\xA4", "\xE2\x82\xAC",
                           "\xED\xA0", "\xF4\x90", "\xE2\x82x", "\xC3\xC3"}) {
    EXPECT_FALSE(IsIncompleteUtf8(text)) << text;
  }
}

TEST(Utf8Test, NewlinesBecomeLf) {
  EXPECT_EQ(NormalizeNewlines("\xEF\xBB\xBF"
                              "a\r\nb\rc\n\r\r\n"),
            "a\nb\nc\n\n\n");
  EXPECT_EQ(NormalizeNewlines(""), "");
  // A mark that is not at the start is text.
  EXPECT_EQ(NormalizeNewlines("a\xEF\xBB\xBF"), "a\xEF\xBB\xBF");
}

TEST(ByteAlphabetTest, IsOneToOneAndKeepsPrintableAscii) {
  std::string bytes;
  for (int b = 0; b < 256; ++b) bytes.push_back(static_cast<char>(b));
  const std::string text = BytesToAlphabet(bytes);
  EXPECT_EQ(AlphabetToBytes(text), bytes);
  EXPECT_EQ(BytesToAlphabet("a b\n"), "a\u0120b\u010A");
  EXPECT_EQ(AlphabetToBytes("\u20AC"), std::nullopt);
  EXPECT_EQ(AlphabetToBytes(" "), std::nullopt);
}

}  // namespace
}  // namespace sinklora
