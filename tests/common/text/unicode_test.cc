// SPDX-License-Identifier: Apache-2.0
#include "common/text/unicode.h"

#include <gtest/gtest.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>

#include <random>

#include "common/text/utf8.h"

namespace sinklora {
namespace {

// ICU's own normalizer, which works another way.
std::string Oracle(const std::string& text) {
  UErrorCode error = U_ZERO_ERROR;
  std::vector<UChar> in(text.size() + 1), out(4 * text.size() + 64);
  int32_t length = 0;
  u_strFromUTF8(in.data(), static_cast<int32_t>(in.size()), &length,
                text.data(), static_cast<int32_t>(text.size()), &error);
  length =
      unorm2_normalize(unorm2_getNFCInstance(&error), in.data(), length,
                       out.data(), static_cast<int32_t>(out.size()), &error);
  std::string utf8(4 * out.size(), '\0');
  int32_t bytes = 0;
  u_strToUTF8(utf8.data(), static_cast<int32_t>(utf8.size()), &bytes,
              out.data(), length, &error);
  EXPECT_TRUE(U_SUCCESS(error));
  utf8.resize(static_cast<size_t>(bytes));
  return utf8;
}

std::string Nfc(const std::string& text) { return ToNfc(text).value_or(text); }

TEST(NfcTest, EveryCodePointAloneAndBeforeAMark) {
  for (char32_t c = 1; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_EQ(Nfc(text), Oracle(text)) << std::hex << uint32_t{c};
    text += "\u0301";
    ASSERT_EQ(Nfc(text), Oracle(text)) << std::hex << uint32_t{c};
  }
}

TEST(NfcTest, RandomTextsOfWhatCombines) {
  // Ranges with marks, composites, jamos and syllables.
  constexpr std::pair<char32_t, char32_t> kRanges[] = {
      {'a', 'z'},         {0xC0, 0x17F},     {0x300, 0x36F},
      {0x591, 0x5C7},     {0x610, 0x65F},    {0x900, 0x9FF},
      {0xE30, 0xE4F},     {0xF71, 0xF84},    {0x1100, 0x11FF},
      {0x1DC0, 0x1DFF},   {0x1E00, 0x1FFF},  {0x3041, 0x30FF},
      {0xAC00, 0xAC80},   {0xF900, 0xFA6D},  {0x11080, 0x110BA},
      {0x1D15E, 0x1D1C0}, {0x2F800, 0x2F850}};
  std::mt19937 random(5);
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string text;
    for (uint32_t i = 0; i < 1 + random() % 12; ++i) {
      const auto [first, last] = kRanges[random() % std::size(kRanges)];
      AppendUtf8(first + random() % (last - first + 1), &text);
    }
    ASSERT_EQ(Nfc(text), Oracle(text)) << text;
  }
}

TEST(NfcTest, NormalizedTextIsLeftAlone) {
  for (const char* text : {"", "plain", "caf\u00e9 \u4e2d\u6587 \U0001F600",
                           "q\u0323\u0307", "\ud55c\uad6d"}) {
    EXPECT_EQ(ToNfc(text), std::nullopt) << text;
  }
  EXPECT_EQ(ToNfc("cafe\u0301!"), "caf\u00e9!");
}

// Would take minutes were the ordering of marks quadratic.
TEST(NfcTest, EndlessMarks) {
  std::string text = "a";
  for (int i = 0; i < 500'000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  const std::string normalized = Nfc(text);
  // One mark below joins the letter, the others follow it before those above.
  EXPECT_TRUE(normalized.starts_with("\u1EA1\u0323"));
  EXPECT_TRUE(normalized.ends_with("\u0301"));
  EXPECT_EQ(ToNfc(normalized), std::nullopt);
}

TEST(UnicodeTest, ClassesOfRegularExpressions) {
  for (char32_t c : {0x20, 0x9, 0xA, 0x85, 0xA0, 0x2028, 0x3000}) {
    EXPECT_TRUE(IsWhiteSpace(c)) << std::hex << uint32_t{c};
  }
  for (char32_t c : {0x61, 0x200B, 0x180E, 0xFEFF}) {
    EXPECT_FALSE(IsWhiteSpace(c)) << std::hex << uint32_t{c};
  }
  for (char32_t c : {0x61, 0x5F, 0x39, 0xE9, 0x301, 0x4E2D, 0x200D, 0x661}) {
    EXPECT_TRUE(IsWordCharacter(c)) << std::hex << uint32_t{c};
  }
  for (char32_t c : {0x20, 0x2D, 0xB2, 0x1F600}) {
    EXPECT_FALSE(IsWordCharacter(c)) << std::hex << uint32_t{c};
  }
}

TEST(UnicodeTest, LastCodePoint) {
  size_t start = 9;
  EXPECT_EQ(LastCodePoint("a\u4e2d", &start), 0x4E2Du);
  EXPECT_EQ(start, 1u);
  EXPECT_EQ(LastCodePoint("a", &start), U'a');
  EXPECT_EQ(start, 0u);
}

}  // namespace
}  // namespace sinklora
