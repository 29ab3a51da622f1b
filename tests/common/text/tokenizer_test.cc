// SPDX-License-Identifier: Apache-2.0
#include "common/text/tokenizer.h"

#include <random>

#include "common/base/hash.h"
#include "common/text/utf8.h"
#include "nlohmann/json.hpp"
#include "tests/common/text/test_tokenizers.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::LoadTokenizer;
using ::sinklora::testing::SmallTokenizerJson;
using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::unique_ptr<Tokenizer> Small() {
  return LoadTokenizer({{"tokenizer.json", SmallTokenizerJson()}}).value();
}

std::string RandomText(uint32_t seed, size_t characters) {
  std::mt19937 random(seed);
  std::string text;
  for (size_t i = 0; i < characters; ++i) {
    char32_t c = random() % 3 == 0 ? random() % 0x110000 : ' ' + random() % 90;
    if (c >= 0xD800 && c < 0xE000) c = '\n';
    AppendUtf8(c, &text);
  }
  return text;
}

TEST(TokenizerTest, DecodesWhatItEncoded) {
  const auto tokenizer = Small();
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::string text = RandomText(seed, 200);
    ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode(text));
    EXPECT_EQ(tokenizer->Decode(ids).value(), text);
  }
  EXPECT_TRUE(tokenizer->Encode("")->empty());
}

TEST(TokenizerTest, TrainedWordsAreShort) {
  const auto tokenizer = Small();
  ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode(" the cat"));
  EXPECT_LE(ids.size(), 3u);
  EXPECT_EQ(tokenizer->vocab_size(), 298);
  EXPECT_EQ(tokenizer->leading_space(), LeadingSpace::kKept);
}

TEST(TokenizerTest, SpecialTokensAreTextInContentAndNothingInOutput) {
  const auto tokenizer = Small();
  ASSERT_EQ(tokenizer->SpecialTokenId("<|end|>"), 1);
  EXPECT_EQ(tokenizer->SpecialTokenId("cat"), std::nullopt);
  ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode("a<|end|>b"));
  EXPECT_THAT(ids, ::testing::Not(::testing::Contains(1)));
  EXPECT_EQ(tokenizer->Decode(ids).value(), "a<|end|>b");
  const std::vector<int32_t> with_specials = {0, ids.front(), 1};
  EXPECT_EQ(tokenizer->Decode(with_specials).value(), "a");
  EXPECT_EQ(tokenizer->TokenBytes(1), "");
}

TEST(TokenizerTest, BadInputIsNamed) {
  const auto tokenizer = Small();
  EXPECT_THAT(tokenizer->Encode("ab\xFF"),
              StatusIs(kInvalid, HasSubstr("0xff at offset 2")));
  EXPECT_THAT(tokenizer->Decode(std::vector<int32_t>{5, 298}),
              StatusIs(kInvalid, HasSubstr("id 298 at position 1")));
  EXPECT_THAT(tokenizer->Decode(std::vector<int32_t>{-1}), StatusIs(kInvalid));
}

// Would take minutes were any step quadratic.
TEST(TokenizerTest, LongTextsAndLongWords) {
  const auto tokenizer = Small();
  std::string book;
  while (book.size() < 2'000'000) book += testing::kTrainingText;
  for (const std::string& text :
       {book, std::string(400'000, 'a'), std::string(400'000, ' '),
        std::string(400'000, '\n'), std::string(400'000, '-'),
        RandomText(9, 100'000)}) {
    ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode(text));
    EXPECT_TRUE(tokenizer->Decode(ids).value() == text);
  }
}

TEST(TokenizerTest, DigestIsOfTheFile) {
  EXPECT_EQ(Small()->digest(), Sha256Hex(SmallTokenizerJson()));
}

TEST(TokenizerTest, BeginAndEndFromTheFilesBeside) {
  const std::string text = SmallTokenizerJson();
  const auto load = [&](std::map<std::string, std::string> files) {
    files["tokenizer.json"] = text;
    return LoadTokenizer(files);
  };
  EXPECT_EQ(load({})->get()->bos_id(), std::nullopt);
  ASSERT_OK_AND_ASSIGN(
      const auto by_text,
      load({{"tokenizer_config.json",
             R"({"bos_token": {"content": "<|begin|>"}})"},
            {"special_tokens_map.json", R"({"eos_token": "<|end|>"})"},
            {"config.json", R"({"bos_token_id": 7, "eos_token_id": 8})"}}));
  EXPECT_EQ(by_text->bos_id(), 0);
  EXPECT_EQ(by_text->eos_id(), 1);
  ASSERT_OK_AND_ASSIGN(
      const auto by_id,
      load({{"generation_config.json", R"({"eos_token_id": [1, 5]})"},
            {"config.json", R"({"bos_token_id": 0, "eos_token_id": 8})"}}));
  EXPECT_EQ(by_id->bos_id(), 0);
  EXPECT_EQ(by_id->eos_id(), 1);
  EXPECT_THAT(load({{"tokenizer_config.json", R"({"bos_token": "<s>"})"}}),
              StatusIs(kInvalid, AllOf(HasSubstr("tokenizer_config.json"),
                                       HasSubstr("bos_token '<s>'"))));
  EXPECT_THAT(load({{"config.json", R"({"eos_token_id": 298})"}}),
              StatusIs(kInvalid, HasSubstr("eos_token_id is 298")));
  EXPECT_THAT(load({{"config.json", "{"}}),
              StatusIs(kInvalid, HasSubstr("config.json")));
}

// Texts begin with the named token only where the model's own tokenizer puts it
// there.
TEST(TokenizerTest, NoBeginTokenWhereTheModelsTokenizerAddsNone) {
  json file = json::parse(SmallTokenizerJson());
  const auto load = [&](const std::string& config) {
    return LoadTokenizer({{"tokenizer.json", file.dump()},
                          {"tokenizer_config.json", config},
                          {"config.json", R"({"bos_token_id": 0})"}})
        .value();
  };
  EXPECT_EQ(load("{}")->bos_id(), 0);
  // Qwen: null overrides what config.json says.
  EXPECT_EQ(load(R"({"bos_token": null})")->bos_id(), std::nullopt);
  EXPECT_EQ(load(R"({"bos_token": null})")->named_bos_id(), std::nullopt);
  const std::string named = R"("bos_token": "<|begin|>")";
  EXPECT_EQ(load("{" + named + R"(, "add_bos_token": false})")->bos_id(),
            std::nullopt);
  EXPECT_EQ(load("{" + named + R"(, "add_bos_token": false})")->named_bos_id(),
            0);
  // GPT-2's class (SmolLM) adds none, unless the file's template does.
  const std::string gpt2 =
      "{" + named + R"(, "tokenizer_class": "GPT2Tokenizer"})";
  EXPECT_EQ(load(gpt2)->bos_id(), 0);
  file["post_processor"] = nullptr;
  EXPECT_EQ(load(gpt2)->bos_id(), std::nullopt);
  EXPECT_EQ(load("{" + named + "}")->bos_id(), 0);
}

TEST(TokenizerTest, SpecialTokensInTheTextOnAsking) {
  const auto tokenizer = Small();
  ASSERT_OK_AND_ASSIGN(
      const auto ids,
      tokenizer->Encode("<|begin|>cat<|end|>", {.parse_special = true}));
  EXPECT_EQ(ids.front(), 0);
  EXPECT_EQ(ids.back(), 1);
  EXPECT_EQ(tokenizer->Decode(ids).value(), "cat");
}

TEST(TokenizerTest, MissingFilesAreNotFound) {
  EXPECT_THAT(LoadTokenizer({{"config.json", "{}"}}),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("neither tokenizer.json nor")));
}

// Each case edits a good file and names what the error must say.
TEST(TokenizerTest, UnsupportedAndCorruptFilesAreNamed) {
  struct Case {
    std::function<void(json*)> edit;
    const char* message;
  };
  const Case cases[] = {
      {[](json* j) { (*j)["model"]["type"] = "Unigram"; }, "Unigram"},
      {[](json* j) { j->erase("model"); }, "model must be an object"},
      {[](json* j) {
         (*j)["normalizer"] = {{"type", "NFKC"}};
       },
       "normalizer {\"type\":\"NFKC\"}"},
      {[](json* j) {
         (*j)["pre_tokenizer"] = {{"type", "Whitespace"}};
       },
       "pre_tokenizer {\"type\":\"Whitespace\"}"},
      {[](json* j) {
         (*j)["decoder"] = {{"type", "WordPiece"}};
       },
       "decoder WordPiece"},
      {[](json* j) {
         (*j)["normalizer"] = {{"type", "Replace"},
                               {"pattern", {{"Regex", "a"}}},
                               {"content", "b"}};
       },
       "only NFC, Prepend, Replace of a String"},
      {[](json* j) {
         (*j)["normalizer"] = {{"type", "Sequence"}};
       },
       "Sequence {\"type\":\"Sequence\"}"},
      {[](json* j) {
         (*j)["normalizer"] = {{"type", "Prepend"}};
       },
       "normalizer {\"type\":\"Prepend\"}"},
      {[](json* j) {
         (*j)["pre_tokenizer"] = {{"type", "Split"},
                                  {"pattern", {{"Regex", "a"}}},
                                  {"behavior", "Removed"}};
       },
       "Split must be Isolated"},
      {[](json* j) {
         (*j)["pre_tokenizer"] = {{"type", "Split"},
                                  {"pattern", {{"Regex", "a"}}},
                                  {"behavior", "Isolated"},
                                  {"invert", true}};
       },
       "Split must be Isolated"},
      {[](json* j) {
         (*j)["pre_tokenizer"] = {{"type", "Split"},
                                  {"pattern", {{"String", ""}}},
                                  {"behavior", "Isolated"}};
       },
       "pre_tokenizer {"},
      {[](json* j) {
         (*j)["pre_tokenizer"] = {{"type", "Digits"}};
       },
       "has no ByteLevel behind it"},
      {[](json* j) {
         (*j)["pre_tokenizer"] = {
             {"type", "Sequence"},
             {"pretokenizers",
              {{{"type", "ByteLevel"}}, {{"type", "Digits"}}}}};
       },
       "step behind the last one"},
      {[](json* j) {
         (*j)["pre_tokenizer"] = {
             {"type", "Sequence"},
             {"pretokenizers",
              {{{"type", "Digits"}}, {{"type", "ByteLevel"}}}}};
       },
       "add_prefix_space = true behind other splits"},
      {[](json* j) {
         (*j)["pre_tokenizer"] = {{"type", "Split"},
                                  {"pattern", {{"Regex", "(a"}}},
                                  {"behavior", "Isolated"}};
         (*j)["pre_tokenizer"] = {
             {"type", "Sequence"},
             {"pretokenizers",
              {(*j)["pre_tokenizer"],
               {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}};
       },
       "regular expression '(a'"},
      {[](json* j) {
         (*j)["post_processor"] = {{"type", "TemplateProcessing"}};
       },
       "post_processor {"},
      {[](json* j) { (*j)["model"]["unk_token"] = 5; }, "unk_token is 5"},
      {[](json* j) { (*j)["added_tokens"][0]["lstrip"] = "x"; },
       "lstrip is \"x\""},
      {[](json* j) { (*j)["model"]["dropout"] = 0.1; }, "model.dropout 0.1"},
      {[](json* j) { (*j)["model"]["end_of_word_suffix"] = "</w>"; },
       "end_of_word_suffix \"</w>\""},
      {[](json* j) { (*j)["model"]["merges"][3] = "abc"; },
       "model.merges[3] is \"abc\""},
      {[](json* j) { (*j)["model"]["merges"][3] = "t zzz"; },
       "model.merges[3]: 'zzz'"},
      {[](json* j) { (*j)["model"]["vocab"].erase("A"); }, "byte 0x41"},
      {[](json* j) { (*j)["model"]["vocab"]["A"] = 5; }, "id 5, which another"},
      {[](json* j) { (*j)["model"]["vocab"]["A"] = -5; },
       "model.vocab[\"A\"] is -5"},
      {[](json* j) { (*j)["model"]["vocab"]["\u20AC"] = 298; },
       "outside the byte alphabet"},
      {[](json* j) { (*j)["model"]["vocab"]["AA"] = 400; },
       "id 298 has no token"},
      {[](json* j) { (*j)["model"]["vocab"]["AA"] = 2000000000; },
       "must be in [0, 16777216]"},
      {[](json* j) { (*j)["added_tokens"][0]["id"] = 9; },
       "id 9 in added_tokens and 0 in model.vocab"},
      {[](json* j) { (*j)["added_tokens"][1].erase("content"); },
       "added_tokens[1]"},
  };
  for (const Case& c : cases) {
    json file = json::parse(SmallTokenizerJson());
    c.edit(&file);
    EXPECT_THAT(LoadTokenizer({{"tokenizer.json", file.dump()}}),
                StatusIs(kInvalid, AllOf(HasSubstr("tokenizer.json"),
                                         HasSubstr(c.message))));
  }
  EXPECT_THAT(
      LoadTokenizer({{"tokenizer.json", SmallTokenizerJson().substr(0, 5000)}}),
      StatusIs(kInvalid, HasSubstr("not valid JSON")));
}

// The form of converted SentencePiece models.
TEST(TokenizerTest, UnsupportedMetaspaceFilesAreNamed) {
  const json metaspace = {{"type", "Metaspace"},
                          {"replacement", "\u2581"},
                          {"prepend_scheme", "first"},
                          {"split", false}};
  const json good = {
      {"pre_tokenizer", metaspace},
      {"decoder", metaspace},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "?"},
        {"vocab", {{"?", 0}, {"a", 1}, {"\u2581", 2}, {"\u2581a", 3}}},
        {"merges", {"\u2581 a"}}}}};
  ASSERT_OK(LoadTokenizer({{"tokenizer.json", good.dump()}}));
  struct Case {
    std::function<void(json*)> edit;
    const char* message;
  };
  const Case cases[] = {
      {[](json* j) { (*j)["pre_tokenizer"]["replacement"] = "_"; },
       "pre_tokenizer {"},
      {[](json* j) { (*j)["pre_tokenizer"]["prepend_scheme"] = "often"; },
       "pre_tokenizer {"},
      {[](json* j) { (*j)["pre_tokenizer"]["add_prefix_space"] = false; },
       "pre_tokenizer {"},
      {[](json* j) { (*j)["decoder"] = nullptr; }, "decoder null"},
      {[](json* j) {
         (*j)["decoder"] = {{"type", "BPEDecoder"}};
       },
       "BPEDecoder"},
      {[](json* j) {
         (*j)["decoder"] = {{"type", "Sequence"},
                            {"decoders",
                             {{{"type", "Replace"},
                               {"pattern", {{"String", "\u2581"}}},
                               {"content", "_"}}}}};
       },
       "decoder {"},
      {[](json* j) {
         (*j)["decoder"] = {{"type", "Sequence"},
                            {"decoders",
                             {{{"type", "Fuse"}},
                              {{"type", "Strip"},
                               {"content", " "},
                               {"start", 2},
                               {"stop", 0}}}}};
       },
       "start is 2"},
      {[](json* j) { (*j)["model"]["ignore_merges"] = true; },
       "ignore_merges = true"},
      {[](json* j) { (*j)["model"]["unk_token"] = nullptr; },
       "unk_token is ''"},
      {[](json* j) { (*j)["model"]["byte_fallback"] = true; },
       "decoder has no ByteFallback"},
      {[](json* j) { (*j)["model"]["vocab"][""] = 4; }, "an empty token"},
  };
  for (const Case& c : cases) {
    json file = good;
    c.edit(&file);
    EXPECT_THAT(LoadTokenizer({{"tokenizer.json", file.dump()}}),
                StatusIs(kInvalid, AllOf(HasSubstr("tokenizer.json"),
                                         HasSubstr(c.message))));
  }
}

TEST(TokenizerTest, OptionsOfByteLevelFiles) {
  json file = json::parse(SmallTokenizerJson());
  file["pre_tokenizer"]["add_prefix_space"] = true;
  for (json& merge : file["model"]["merges"]) {  // the newer spelling
    const std::string text = merge;
    const size_t space = text.find(' ');
    merge = {text.substr(0, space), text.substr(space + 1)};
  }
  file["added_tokens"].push_back(
      {{"id", 298}, {"content", "[tool]"}, {"special", false}});
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       LoadTokenizer({{"tokenizer.json", file.dump()}}));
  EXPECT_EQ(tokenizer->leading_space(), LeadingSpace::kOneStripped);
  const auto plain = Small();
  EXPECT_EQ(tokenizer->Encode("the cat").value(),
            plain->Encode(" the cat").value());
  // A token that is not special is taken whole, and decoded.
  ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode("the[tool] cat"));
  EXPECT_THAT(ids, ::testing::Contains(298));
  EXPECT_EQ(tokenizer->Decode(ids).value(), "the[tool] cat");
}

TEST(StreamDecoderTest, EqualsDecodingAtOnceForAnyText) {
  const auto tokenizer = Small();
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const std::string text = RandomText(seed, 100);
    ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode(text));
    StreamDecoder decoder(tokenizer.get());
    std::string streamed;
    for (int32_t id : ids) {
      const std::string part = decoder.Append(id);
      EXPECT_EQ(FindInvalidUtf8(part), std::string::npos);
      streamed += part;
    }
    EXPECT_EQ(streamed, text);
    EXPECT_EQ(decoder.Finish(), "");
  }
}

TEST(StreamDecoderTest, BytesThatAreNoCharacterAreReplaced) {
  const auto tokenizer = Small();
  const auto byte_id = [](int byte) { return 2 + byte; };
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(decoder.Append(byte_id(0xE2)), "");
  EXPECT_EQ(decoder.Append(byte_id(0x82)), "");
  EXPECT_EQ(decoder.Append(byte_id('x')), "\uFFFDx");
  EXPECT_EQ(decoder.Append(byte_id(0xFF)), "\uFFFD");
  EXPECT_EQ(decoder.Append(byte_id(0xE2)), "");
  EXPECT_EQ(decoder.Append(byte_id(0xE2)), "\uFFFD");
  EXPECT_EQ(decoder.Append(byte_id(0x82)), "");
  EXPECT_EQ(decoder.Append(byte_id(0xAC)), "\u20AC");
  EXPECT_EQ(decoder.Append(1), "");  // special
  EXPECT_EQ(decoder.Append(byte_id(0xF0)), "");
  EXPECT_EQ(decoder.Finish(), "\uFFFD");
  EXPECT_EQ(decoder.Finish(), "");
}

}  // namespace
}  // namespace sinklora
