// Tokenizers into GGUF and back.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_vocabulary.h"

#include <memory>
#include <vector>

#include "common/gguf/pre_tokenizers.h"
#include "common/gguf/tokenizer_files.h"
#include "common/text/tokenizer.h"
#include "tests/common/gguf/gguf_golden.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::GgufGolden;
using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Every model that the golden script makes.
constexpr const char* kModels[] = {"llama_spm", "llama3_bpe", "qwen2_bpe",
                                   "qwen3_bpe"};

const std::string kTexts[] = {
    "It is a truth universally acknowledged, that a single man",
    "  two  spaces ,\ttab\nline\r\n\r\n ends ",
    "don't DON'T we'll I'M 1813 12345 3.14",
    "日本語 ümlaut Ωmega \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB",
    "<s> </s> <unk> <|endoftext|> <tool> <0x41> [PAD311]",
    "",
    " ",
    "x"};

// `vocabulary` through a GGUF file.
absl::StatusOr<VocabularyView> RoundTrip(const VocabularyView& vocabulary,
                                         int64_t vocab_size) {
  GgufHeader header;
  SL_RETURN_IF_ERROR(AddVocabulary(vocabulary, vocab_size, "dir", &header));
  SL_ASSIGN_OR_RETURN(const auto dir, TempDir::Create());
  const std::string path = JoinPath(dir->path(), "m.gguf");
  SL_ASSIGN_OR_RETURN(const auto writer,
                      GgufWriter::Create(path, std::move(header)));
  SL_RETURN_IF_ERROR(writer->Finish());
  SL_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(path));
  return ParseVocabulary(*file);
}

absl::StatusOr<VocabularyView> ReadGolden(const std::string& model) {
  SL_ASSIGN_OR_RETURN(const auto file,
                      GgufFile::Open(GgufGolden(model + ".gguf")));
  return ParseVocabulary(*file);
}

TEST(GgufVocabularyTest, ConvertersFilesGiveTheSameIdsAsTheirSources) {
  for (const std::string model : kModels) {
    ASSERT_OK_AND_ASSIGN(const VocabularyView vocabulary, ReadGolden(model));
    ASSERT_OK_AND_ASSIGN(const auto dir, TempDir::Create());
    ASSERT_OK(WriteTokenizerFiles(vocabulary, 64, dir->path()));
    ASSERT_OK_AND_ASSIGN(const auto actual,
                         Tokenizer::LoadFromDirectory(dir->path()));
    ASSERT_OK_AND_ASSIGN(const auto expected,
                         Tokenizer::LoadFromDirectory(GgufGolden(model)));
    for (const std::string& text : kTexts) {
      EXPECT_EQ(actual->Encode(text).value(), expected->Encode(text).value())
          << model << ": " << text;
    }
    EXPECT_EQ(actual->vocab_size(), expected->vocab_size()) << model;
    EXPECT_EQ(actual->eos_id(), expected->eos_id()) << model;
    // A converter may name a begin token that the tokenizer itself has not.
    if (expected->bos_id()) {
      EXPECT_EQ(actual->bos_id(), expected->bos_id()) << model;
    }
  }
}

TEST(GgufVocabularyTest, WhatIsWrittenIsRead) {
  for (const std::string model : kModels) {
    ASSERT_OK_AND_ASSIGN(const VocabularyView before, ReadGolden(model));
    ASSERT_OK_AND_ASSIGN(const VocabularyView after, RoundTrip(before, 400));
    EXPECT_EQ(after.kind, before.kind) << model;
    EXPECT_EQ(after.pieces, before.pieces) << model;
    EXPECT_EQ(after.types, before.types) << model;
    EXPECT_EQ(after.scores, before.scores) << model;
    EXPECT_EQ(after.merges, before.merges) << model;
    EXPECT_EQ(after.pre_tokenizer, before.pre_tokenizer) << model;
    EXPECT_EQ(after.ignore_merges, before.ignore_merges) << model;
    EXPECT_EQ(after.bos_id, before.bos_id) << model;
    EXPECT_EQ(after.eos_id, before.eos_id) << model;
    EXPECT_EQ(after.unknown_id, before.unknown_id) << model;
    EXPECT_EQ(after.padding_id, before.padding_id) << model;
    EXPECT_EQ(after.add_bos, before.add_bos) << model;
    EXPECT_EQ(after.add_eos, before.add_eos) << model;
    EXPECT_EQ(after.add_space_prefix, before.add_space_prefix) << model;
    EXPECT_EQ(after.chat_template, before.chat_template) << model;
  }
}

// llama.cpp's name says whether merges are ignored, so another one is written.
TEST(GgufVocabularyTest, Llama3WithMergesHasItsOwnName) {
  ASSERT_OK_AND_ASSIGN(VocabularyView vocabulary, ReadGolden("llama3_bpe"));
  EXPECT_TRUE(vocabulary.ignore_merges);
  vocabulary.ignore_merges = false;
  ASSERT_OK_AND_ASSIGN(const VocabularyView after, RoundTrip(vocabulary, 320));
  EXPECT_EQ(after.pre_tokenizer, "llama-bpe");
  EXPECT_FALSE(after.ignore_merges);
  EXPECT_THAT(MakeTokenizerJson(after), HasSubstr("\"ignore_merges\": false"));
}

TEST(GgufVocabularyTest, WhatLlamaCppCannotDoIsRefused) {
  ASSERT_OK_AND_ASSIGN(const VocabularyView bytes, ReadGolden("qwen2_bpe"));
  ASSERT_OK_AND_ASSIGN(const VocabularyView pieces, ReadGolden("llama_spm"));
  struct Case {
    VocabularyView vocabulary;
    const char* message;
  };
  const auto with = [](VocabularyView vocabulary, auto change,
                       const char* message) {
    change(&vocabulary);
    return Case{std::move(vocabulary), message};
  };
  const Case cases[] = {
      with(
          pieces, [](auto* v) { v->kind = VocabularyKind::kUnigram; },
          "a unigram tokenizer"),
      with(
          pieces, [](auto* v) { v->character_map = "x"; }, "maps characters"),
      with(
          pieces, [](auto* v) { v->remove_extra_spaces = true; },
          "removes extra spaces"),
      with(
          pieces, [](auto* v) { v->eos_id.reset(); }, "no end token is known"),
      with(
          bytes, [](auto* v) { v->pre_tokenizer.clear(); },
          "is none that llama.cpp has, must be that of gpt-2, llama-bpe"),
      with(
          bytes, [](auto* v) { v->add_space_prefix = true; },
          "add_prefix_space"),
      with(
          bytes, [](auto* v) { v->pieces[300] = v->pieces[2]; },
          "the text of token 300 "),
      with(
          pieces, [](auto* v) { v->pieces[300] = "[PAD316]"; },
          "the text of token 316 '[PAD316]' comes twice"),
  };
  for (const Case& c : cases) {
    EXPECT_THAT(RoundTrip(c.vocabulary, 320),
                StatusIs(kInvalid, HasSubstr(c.message)));
  }
  EXPECT_THAT(RoundTrip(pieces, 315),
              StatusIs(kInvalid, HasSubstr("token 315 ")));
}

// A file with these changes to a good vocabulary's metadata.
absl::Status ParseChanged(const std::string& kind, const std::string& pre,
                          const std::vector<std::string>& tokens,
                          const std::vector<float>& scores,
                          const std::vector<int32_t>& types,
                          const std::vector<std::string>& merges,
                          uint32_t eos) {
  GgufHeader header;
  header.AddString("tokenizer.ggml.model", kind);
  header.AddString("tokenizer.ggml.pre", pre);
  header.AddStrings("tokenizer.ggml.tokens", tokens);
  header.AddFloats("tokenizer.ggml.scores", scores);
  header.AddInt32s("tokenizer.ggml.token_type", types);
  header.AddStrings("tokenizer.ggml.merges", merges);
  header.AddUint32("tokenizer.ggml.eos_token_id", eos);
  SL_ASSIGN_OR_RETURN(const auto dir, TempDir::Create());
  const std::string path = JoinPath(dir->path(), "m.gguf");
  SL_ASSIGN_OR_RETURN(const auto writer,
                      GgufWriter::Create(path, std::move(header)));
  SL_RETURN_IF_ERROR(writer->Finish());
  SL_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(path));
  return ParseVocabulary(*file).status();
}

TEST(GgufVocabularyTest, BadMetadataIsNamed) {
  const std::vector<std::string> t = {"a", "b", "c"};
  const std::vector<float> s = {0, -1, -2};
  const std::vector<int32_t> y = {1, 1, 1};
  const std::string k = "llama", p = "default";
  EXPECT_OK(ParseChanged(k, p, t, s, y, {}, 2));
  EXPECT_OK(ParseChanged("gpt2", "gpt-2", t, s, y, {"a b"}, 2));
  const std::pair<absl::Status, const char*> cases[] = {
      {ParseChanged("t5", p, t, s, y, {}, 2),
       "key 'tokenizer.ggml.model' is 't5', must be 'llama' or 'gpt2'"},
      {ParseChanged("gpt2", "default", t, s, y, {}, 2),
       "key 'tokenizer.ggml.pre' is 'default', must be one of gpt-2, "
       "llama-bpe"},
      {ParseChanged(k, p, {"a", "\xFF", "c"}, s, y, {}, 2),
       "key 'tokenizer.ggml.tokens': text 1 is empty or not UTF-8"},
      {ParseChanged(k, p, {"a", "", "c"}, s, y, {}, 2), "text 1 is empty"},
      {ParseChanged(k, p, t, {0, -1}, y, {}, 2),
       "key 'tokenizer.ggml.scores' has 2 entries, 'tokenizer.ggml.tokens' has "
       "3"},
      {ParseChanged(k, p, t, s, {1, 1}, {}, 2),
       "key 'tokenizer.ggml.token_type' has 2 entries"},
      {ParseChanged(k, p, t, s, {1, 7, 1}, {}, 2),
       "token 1 is of type 7, must be in [1, 6]"},
      {ParseChanged(k, p, t, {5, 5, 5}, y, {}, 2), "all tokens have one score"},
      {ParseChanged(k, p, t, {0, NAN, 1}, y, {}, 2), "must be finite"},
      {ParseChanged(k, p, t, s, {5, 5, 5}, {}, 2), "has no token in use"},
      {ParseChanged(k, p, t, s, y, {}, 3),
       "key 'tokenizer.ggml.eos_token_id' is 3, must be in [0, 3)"},
      {ParseChanged(k, p, t, s, {1, 1, 5}, {}, 2), "must be in [0, 2)"},
      {ParseChanged("gpt2", "gpt-2", t, s, y, {"\xC3"}, 2),
       "key 'tokenizer.ggml.merges': text 0"},
  };
  for (const auto& [status, message] : cases) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr(message)));
  }
}

}  // namespace
}  // namespace sinklora
