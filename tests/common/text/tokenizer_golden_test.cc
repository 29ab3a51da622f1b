// Token ids of published tokenizers on strings chosen to be difficult, as their
// reference implementations give them.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <functional>

#include "common/text/utf8.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "tests/common/text/test_tokenizers.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::LoadTokenizer;

class TokenizerGoldenTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* shared = std::getenv("SINKLORA_SHARED_DIR");
    if (shared == nullptr) {
      GTEST_SKIP() << "SKIPPED: SINKLORA_SHARED_DIR is not set";
    }
    dir_ = JoinPath(shared, "tokenizers");
    if (!FileExists(JoinPath(dir_, "golden.jsonl"))) {
      GTEST_SKIP() << "SKIPPED: no golden.jsonl in " << dir_;
    }
    std::istringstream lines(Read("golden.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      golden_.push_back(json::parse(line));
    }
    ASSERT_GE(golden_.size(), 200u);
  }

  std::string Read(const std::string& name) {
    return ReadFile(JoinPath(dir_, name)).value();
  }

  // Compares the ids of `key` (and of `key`_special with special tokens in the
  // text) and the decoded text of `key`_decoded, or the text itself where there
  // is no such field.
  void Check(const Tokenizer& tokenizer, const std::string& key) {
    for (const json& row : golden_) {
      const std::string text = row["text"];
      const std::vector<int32_t> expected = row[key];
      const auto ids = tokenizer.Encode(text);
      ASSERT_OK(ids);
      EXPECT_EQ(*ids, expected) << row["i"] << " " << row["text"];
      const std::string decoded = row.value(key + "_decoded", text);
      const std::string ours = tokenizer.Decode(expected).value();
      EXPECT_EQ(ours, decoded) << row["i"];
      if (const auto it = row.find(key + "_special"); it != row.end()) {
        EXPECT_EQ(tokenizer.Encode(text, {.parse_special = true}).value(),
                  it->get<std::vector<int32_t>>())
            << row["i"] << " " << row["text"];
      }
      CheckStream(tokenizer, expected, ours);
    }
  }

  static void CheckStream(const Tokenizer& tokenizer,
                          const std::vector<int32_t>& ids,
                          const std::string& decoded) {
    StreamDecoder decoder(&tokenizer);
    std::string streamed;
    for (int32_t id : ids) streamed += decoder.Append(id);
    EXPECT_EQ(streamed + decoder.Finish(), decoded);
  }

  // The second oracle: strings and ids of another project's test vectors.
  void CheckVectors(const Tokenizer& tokenizer, const std::string& name) {
    constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
    const std::string text = Read("llama.cpp-vectors/strings.inp");
    std::istringstream outputs(
        Read(fmt::format("llama.cpp-vectors/{}.out", name)));
    int count = 0;
    for (size_t begin = 0; begin < text.size(); ++count) {
      const size_t end = std::min(text.find(kSeparator, begin), text.size());
      std::string line;
      if (!std::getline(outputs, line)) break;
      std::istringstream numbers(line);
      const std::vector<int32_t> expected{
          std::istream_iterator<int32_t>(numbers), {}};
      EXPECT_EQ(tokenizer.Encode(text.substr(begin, end - begin)).value(),
                expected)
          << name << " " << count;
      begin = end + kSeparator.size();
    }
    EXPECT_GE(count, 40) << name;
  }

  std::string dir_;
  std::vector<json> golden_;
};

TEST_F(TokenizerGoldenTest, Llama2SentencePiece) {
  ASSERT_OK_AND_ASSIGN(
      const auto tokenizer,
      LoadTokenizer({{"tokenizer.model", Read("llama2-tokenizer.model")}}));
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  Check(*tokenizer, "llama2");
  CheckVectors(*tokenizer, "llama-spm");
}

TEST_F(TokenizerGoldenTest, Llama2Json) {
  ASSERT_OK_AND_ASSIGN(
      const auto tokenizer,
      LoadTokenizer({{"tokenizer.json", Read("llama2-tokenizer.json")}}));
  EXPECT_EQ(tokenizer->SpecialTokenId("</s>"), 2);
  Check(*tokenizer, "llama2");
}

TEST_F(TokenizerGoldenTest, Tok512) {
  ASSERT_OK_AND_ASSIGN(
      const auto tokenizer,
      LoadTokenizer({{"tokenizer.model", Read("tok512.model")}}));
  Check(*tokenizer, "tok512");
}

TEST_F(TokenizerGoldenTest, Llama3) {
  ASSERT_OK_AND_ASSIGN(
      const auto tokenizer,
      LoadTokenizer({{"tokenizer.json", Read("llama3-tokenizer.json")}}));
  EXPECT_EQ(tokenizer->vocab_size(), 128256);
  EXPECT_EQ(tokenizer->SpecialTokenId("<|begin_of_text|>"), 128000);
  Check(*tokenizer, "llama3");
  CheckVectors(*tokenizer, "llama-bpe");
}

TEST_F(TokenizerGoldenTest, Llama3Tiktoken) {
  ASSERT_OK_AND_ASSIGN(
      const auto tokenizer,
      LoadTokenizer({{"tokenizer.model", Read("llama3-tokenizer.model")}}));
  EXPECT_EQ(tokenizer->vocab_size(), 128256);
  EXPECT_EQ(tokenizer->bos_id(), 128000);
  EXPECT_EQ(tokenizer->eos_id(), 128001);
  EXPECT_EQ(tokenizer->SpecialTokenId("<|eot_id|>"), 128009);
  EXPECT_EQ(tokenizer->SpecialTokenId("<|reserved_special_token_250|>"),
            128255);
  Check(*tokenizer, "llama3");
  CheckVectors(*tokenizer, "llama-bpe");
}

TEST_F(TokenizerGoldenTest, Gpt2) {
  json vocab = json::parse(Read("gpt2-vocab.json"));
  json merges = json::array();
  std::istringstream lines(Read("gpt2-merges.txt"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && !line.starts_with("#version")) merges.push_back(line);
  }
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  const json added = json::array({{{"id", vocab.value("<|endoftext|>", 50256)},
                                   {"content", "<|endoftext|>"},
                                   {"special", true}}});
  const json file = {
      {"added_tokens", added},
      {"pre_tokenizer", byte_level},
      {"decoder", byte_level},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       LoadTokenizer({{"tokenizer.json", file.dump()}}));
  EXPECT_EQ(tokenizer->vocab_size(), 50257);
  Check(*tokenizer, "gpt2");
  CheckVectors(*tokenizer, "gpt-2");
}

// A whole book in one call, in each kind of tokenizer.
TEST_F(TokenizerGoldenTest, Books) {
  std::string book;
  for (int i = 0; book.size() < 3'400'000; ++i) {
    const json& row = golden_[i % golden_.size()];
    if (row["kind"] != "invalid") book += row["text"].get<std::string>() + " ";
    book += fmt::format("Chapter {} was the best, and the worst, of all. ", i);
  }
  const std::pair<const char*, const char*> files[] = {
      {"tokenizer.model", "llama2-tokenizer.model"},
      {"tokenizer.json", "llama3-tokenizer.json"}};
  for (const auto& [name, source] : files) {
    ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                         LoadTokenizer({{name, Read(source)}}));
    ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer->Encode(book));
    EXPECT_GT(ids.size(), book.size() / 8);
    EXPECT_LT(ids.size(), book.size());
  }
}

}  // namespace
}  // namespace sinklora
