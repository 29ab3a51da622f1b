// SentencePiece models built by hand, so that the expected ids follow from the
// scores below.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "fmt/format.h"
#include "tests/common/text/test_tokenizers.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::LoadTokenizer;
using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Protobuf's wire format, as far as these messages need it.
std::string Varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) {
    out.push_back(static_cast<char>(value | 0x80));
  }
  out.push_back(static_cast<char>(value));
  return out;
}
std::string IntField(int field, uint64_t value) {
  return Varint(field << 3) + Varint(value);
}
std::string BytesField(int field, const std::string& bytes) {
  return Varint(field << 3 | 2) + Varint(bytes.size()) + bytes;
}
std::string FloatField(int field, float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return Varint(field << 3 | 5) + bytes;
}

enum PieceType : int {
  kNormal = 1,
  kUnknown,
  kControl,
  kUserDefined,
  kUnused,
  kByte
};

std::string Piece(const std::string& text, float score,
                  PieceType type = kNormal) {
  return BytesField(
      1, BytesField(1, text) + FloatField(2, score) + IntField(3, type));
}

struct Spec {
  int model_type = 2;
  bool byte_fallback = true;
  bool suffix = false;
  std::string normalizer = "identity";
  std::string character_map;
  bool dummy_prefix = true;
  bool remove_extra = false;
  std::string more_pieces;
};

constexpr int32_t kFirstNormal = 3 + 256;

// Pieces: <unk> <s> </s>, 256 bytes, then ids from kFirstNormal on.
std::string Model(const Spec& spec) {
  std::string out = Piece("<unk>", 0, kUnknown) + Piece("<s>", 0, kControl) +
                    Piece("</s>", 0, kControl);
  for (int b = 0; b < 256; ++b) {
    // Without byte fallback just as many other pieces, so that ids stay.
    out += spec.byte_fallback ? Piece(fmt::format("<0x{:02X}>", b), 0, kByte)
                              : Piece(fmt::format("[{}]", b), 0, kControl);
  }
  out += Piece("\u2581", -10) + Piece("a", -11) + Piece("b", -12) +
         Piece("ab", -1) + Piece("\u2581a", -2) + Piece("\u2581ab", -3) +
         Piece("ba", -0.5) + Piece("[X]", 0, kUserDefined);
  out += spec.more_pieces;
  out +=
      BytesField(2, IntField(3, spec.model_type) + IntField(24, spec.suffix) +
                        IntField(35, spec.byte_fallback));
  out += BytesField(3, BytesField(1, spec.normalizer) +
                           BytesField(2, spec.character_map) +
                           IntField(3, spec.dummy_prefix) +
                           IntField(4, spec.remove_extra) + IntField(5, 1));
  return out;
}

constexpr int32_t kSpace = kFirstNormal, kA = kSpace + 1, kB = kSpace + 2,
                  kAb = kSpace + 3, kSpaceA = kSpace + 4, kSpaceAb = kSpace + 5,
                  kBa = kSpace + 6, kX = kSpace + 7;

std::unique_ptr<Tokenizer> Load(const Spec& spec) {
  auto tokenizer = LoadTokenizer({{"tokenizer.model", Model(spec)}});
  EXPECT_OK(tokenizer);
  return *std::move(tokenizer);
}

TEST(SentencePieceTest, BestScoreFirstThenLeftmost) {
  const auto tokenizer = Load({});
  const auto encode = [&](const char* text) {
    return tokenizer->Encode(text).value();
  };
  EXPECT_THAT(encode(""), ElementsAre());
  EXPECT_THAT(encode("ab"), ElementsAre(kSpaceAb));
  EXPECT_THAT(encode("aba"), ElementsAre(kSpaceA, kBa));
  EXPECT_THAT(encode("bab"), ElementsAre(kSpace, kBa, kB));
  EXPECT_THAT(encode("a  ab"), ElementsAre(kSpaceA, kSpace, kSpaceAb));
  // No token: bytes.
  EXPECT_THAT(encode("a\u00E4"), ElementsAre(kSpaceA, 3 + 0xC3, 3 + 0xA4));
  // Control pieces are text, user-defined ones are taken whole.
  EXPECT_THAT(encode("<s>"), ElementsAre(kSpace, 3 + '<', 3 + 's', 3 + '>'));
  EXPECT_THAT(encode("a[X]b"), ElementsAre(kSpaceA, kX, kB));
}

TEST(SentencePieceTest, DecodesWithoutTheDummySpace) {
  const auto tokenizer = Load({});
  EXPECT_EQ(tokenizer->leading_space(), LeadingSpace::kOneStripped);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  for (const char* text : {"ab", " ab", "a  b \u00E4[X]", "\n\tx"}) {
    ASSERT_OK_AND_ASSIGN(auto ids, tokenizer->Encode(text));
    ids.insert(ids.begin(), 1);
    EXPECT_EQ(tokenizer->Decode(ids).value(), text);
  }
  EXPECT_EQ(tokenizer->TokenBytes(kSpaceAb), " ab");
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(decoder.Append(1), "");
  EXPECT_EQ(decoder.Append(kSpaceAb), "ab");
  EXPECT_EQ(decoder.Append(kSpaceAb), " ab");
}

TEST(SentencePieceTest, AddedTokensAreSpecial) {
  const auto load = [](const std::string& added) {
    return LoadTokenizer(
        {{"tokenizer.model", Model({})}, {"added_tokens.json", added}});
  };
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       load(fmt::format(R"({{"<|im_end|>": {}}})", kX + 1)));
  EXPECT_EQ(tokenizer->vocab_size(), kX + 2);
  EXPECT_EQ(tokenizer->SpecialTokenId("<|im_end|>"), kX + 1);
  EXPECT_EQ(tokenizer->TokenBytes(kX + 1), "");
  EXPECT_THAT(load(R"({"x": -1})"),
              StatusIs(kInvalid, HasSubstr("added_tokens.json: x is -1")));
  EXPECT_THAT(load(R"({"x": 9999})"),
              StatusIs(kInvalid, HasSubstr("no token")));
}

// What recent libraries write instead of added_tokens.json; the model's own
// pieces are listed there too.
TEST(SentencePieceTest, AddedTokensOfTheConfigKeepTheirFlags) {
  const auto load = [](const std::string& decoder) {
    return LoadTokenizer(
        {{"tokenizer.model", Model({})},
         {"tokenizer_config.json",
          fmt::format(R"({{"added_tokens_decoder": {}}})", decoder)}});
  };
  ASSERT_OK_AND_ASSIGN(
      const auto tokenizer,
      load(fmt::format(R"({{"1": {{"content": "<s>", "special": true}},
                            "{}": {{"content": "<|im_end|>", "special": true}},
                            "{}": {{"content": "<tool>"}}}})",
                       kX + 1, kX + 2)));
  EXPECT_EQ(tokenizer->SpecialTokenId("<|im_end|>"), kX + 1);
  EXPECT_EQ(tokenizer->SpecialTokenId("<tool>"), std::nullopt);
  EXPECT_THAT(tokenizer->Encode("a<tool>").value(),
              ElementsAre(kSpaceA, kX + 2));
  EXPECT_EQ(tokenizer->TokenBytes(kX + 2), "<tool>");
  EXPECT_THAT(load(R"({"x": {"content": "y"}})"),
              StatusIs(kInvalid, HasSubstr("'x' is not an id")));
  EXPECT_THAT(load(R"({"1": {}})"), StatusIs(kInvalid, HasSubstr("content")));
  EXPECT_THAT(load("[]"),
              StatusIs(kInvalid, HasSubstr("added_tokens_decoder []")));
}

TEST(SentencePieceTest, NormalizerOptions) {
  Spec spec;
  spec.remove_extra = true;
  EXPECT_THAT(Load(spec)->Encode("  ab   b ").value(),
              ElementsAre(kSpaceAb, kSpace, kB));
  EXPECT_THAT(Load(spec)->Encode("   ").value(), ElementsAre());
  spec = Spec();
  spec.dummy_prefix = false;
  EXPECT_THAT(Load(spec)->Encode("ab").value(), ElementsAre(kAb));
  EXPECT_EQ(Load(spec)->leading_space(), LeadingSpace::kKept);
}

TEST(SentencePieceTest, WithoutByteFallbackUnknownRunsAreOneToken) {
  Spec spec;
  spec.byte_fallback = false;
  EXPECT_THAT(Load(spec)->Encode("a\u00E4\u00F6b").value(),
              ElementsAre(kSpaceA, 0, kB));
}

// A piece with a space inside forbids merging word by word.
TEST(SentencePieceTest, PiecesThatCrossSpaces) {
  Spec spec;
  spec.more_pieces = Piece("b\u2581", -0.1) + Piece("b\u2581a", -0.2);
  EXPECT_THAT(Load(spec)->Encode("ab a").value(), ElementsAre(kSpaceA, kX + 2));
}

TEST(SentencePieceTest, UnsupportedAndCorruptModelsAreNamed) {
  const auto expect = [](const Spec& spec, const char* message) {
    EXPECT_THAT(LoadTokenizer({{"tokenizer.model", Model(spec)}}),
                StatusIs(kInvalid, AllOf(HasSubstr("tokenizer.model"),
                                         HasSubstr(message))));
  };
  Spec spec;
  spec.model_type = 3;
  expect(spec, "model_type WORD");
  spec.model_type = 9;
  expect(spec, "model_type 9");
  spec = Spec();
  spec.character_map = "xyz";
  expect(spec, "precompiled_charsmap of 3 bytes");
  spec = Spec();
  spec.more_pieces = Piece("q", 0, static_cast<PieceType>(7));
  expect(spec, "'q' has type 7");
  spec.more_pieces = Piece("<0x0g>", 0, kByte);
  expect(spec, "<0x0g>");
  spec.more_pieces = Piece("ab", 0);
  expect(spec, "are both 'ab'");
  spec.more_pieces = Piece("<unk2>", 0, kUnknown);
  expect(spec, "2 unknown pieces");
  spec.more_pieces = BytesField(5, BytesField(2, "x"));
  expect(spec, "denormalizer_spec");
  spec.more_pieces = Piece("", 0);
  expect(spec, "empty");
  spec.more_pieces = Piece("q", NAN);
  expect(spec, "no finite score");

  const std::string good = Model({});
  for (size_t size : {good.size() - 1, good.size() / 2 + 1}) {
    EXPECT_THAT(LoadTokenizer({{"tokenizer.model", good.substr(0, size)}}),
                StatusIs(kInvalid))
        << size;
  }
  EXPECT_THAT(LoadTokenizer({{"tokenizer.model", "no protobuf at all"}}),
              StatusIs(kInvalid, HasSubstr("malformed")));
  EXPECT_THAT(LoadTokenizer({{"tokenizer.model", ""}}),
              StatusIs(kInvalid, HasSubstr("no pieces")));
}

}  // namespace
}  // namespace sinklora
