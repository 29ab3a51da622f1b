// Small tokenizers of every kind on strings that tokenizers disagree about: ids
// and decoded texts equal what the libraries that models come from made of them
// (tests/parity/make_tokenizer_goldens.py, versions.json).
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "absl/strings/escaping.h"
#include "common/text/utf8.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "tests/common/text/test_tokenizers.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

std::string DataDir() {
  const char* source = std::getenv("SINKLORA_SOURCE_DIR");
  return JoinPath(source == nullptr ? "." : source,
                  "tests/parity/data/tokenizers");
}

json ReadJson(const std::string& name) {
  return json::parse(ReadFile(JoinPath(DataDir(), name)).value());
}

class TokenizerParityTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(tokenizer_, Tokenizer::LoadFromDirectory(
                                         JoinPath(DataDir(), GetParam())));
  }

  // Decoding a token at a time gives the same text.
  void CheckStream(const std::vector<int32_t>& ids, const std::string& text) {
    StreamDecoder decoder(tokenizer_.get());
    std::string streamed;
    for (int32_t id : ids) {
      const std::string part = decoder.Append(id);
      EXPECT_EQ(FindInvalidUtf8(part), std::string::npos);
      streamed += part;
    }
    EXPECT_EQ(streamed + decoder.Finish(), text);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(TokenizerParityTest, IdsAndTextsAreTheLibrarys) {
  const json texts = ReadJson("strings.json");
  const json golden = ReadJson(JoinPath(GetParam(), "golden.json"));
  ASSERT_GE(texts.size(), 200u);
  ASSERT_EQ(golden.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    const json& row = golden[i];
    const std::vector<int32_t> expected = row[0];
    SCOPED_TRACE(fmt::format("{}: {}", i, texts[i].dump()));
    ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer_->Encode(text));
    EXPECT_EQ(ids, expected);
    const std::string decoded = row[1].is_null() ? text : std::string(row[1]);
    EXPECT_EQ(tokenizer_->Decode(expected).value(), decoded);
    CheckStream(expected, decoded);
    if (std::string_view(GetParam()).starts_with("sp_")) continue;
    const bool differs = row.size() > 2;
    const std::vector<int32_t> special = differs ? row[2] : row[0];
    EXPECT_EQ(tokenizer_->Encode(text, {.parse_special = true}).value(),
              special);
    const std::string special_text = differs ? std::string(row[3]) : decoded;
    EXPECT_EQ(tokenizer_->Decode(special).value(), special_text);
  }
}

// A text in parts, the later ones as going on, is the text: nothing is put
// before them, and no character is lost between them.
TEST_P(TokenizerParityTest, ContinuedTextHasNoPrefix) {
  const auto first = tokenizer_->Encode("the").value();
  auto second =
      tokenizer_
          ->Encode(" cat sat", {.start = EncodeOptions::Start::kContinued})
          .value();
  second.insert(second.begin(), first.begin(), first.end());
  // Models with spaces as suffixes put one behind each of the two.
  const bool is_suffix = std::string_view(GetParam()).ends_with("_suffix");
  EXPECT_EQ(
      tokenizer_->Decode(second).value(),
      tokenizer_->Decode(first).value() + " cat sat" + (is_suffix ? " " : ""));
}

TEST_P(TokenizerParityTest, InvalidUtf8IsRefusedWithItsOffset) {
  for (const json& row : ReadJson("invalid.json")) {
    std::string bytes;
    ASSERT_TRUE(absl::Base64Unescape(std::string(row["b64"]), &bytes));
    EXPECT_THAT(
        tokenizer_->Encode(bytes),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 HasSubstr(fmt::format("at offset {}", int(row["offset"])))));
  }
}

// Would take minutes were any step quadratic. The ids of repeated text repeat,
// so what the middle decodes to is known.
TEST_P(TokenizerParityTest, LongTextsWithoutASpace) {
  std::string marks = "q";
  for (int i = 0; i < 25'000; ++i) marks += i % 2 == 0 ? "\u0323" : "\u0307";
  std::string mixed;
  for (int i = 0; i < 10'000; ++i) mixed += "x\u00e91\u4e2d-";
  for (const std::string& text :
       {std::string(100'000, 'a'), std::string(100'000, '-'),
        std::string(100'000, '7'), std::string(100'000, '\n'),
        std::string(100'000, ' '), mixed, marks}) {
    ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer_->Encode(text));
    EXPECT_LE(ids.size(), text.size() + 1);
    EXPECT_OK(tokenizer_->Decode(ids));
    ASSERT_OK_AND_ASSIGN(const auto special,
                         tokenizer_->Encode(text, {.parse_special = true}));
    EXPECT_LE(special.size(), text.size() + 1);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, TokenizerParityTest,
    ::testing::Values("gpt2", "llama3", "qwen2", "smollm", "digits_runs",
                      "tekken", "tiktoken", "llama2_prepend", "metaspace_first",
                      "metaspace_always", "metaspace_never", "metaspace_unk",
                      "metaspace_unk_runs", "sp_bpe_llama2", "sp_bpe_rules",
                      "sp_bpe_suffix", "sp_bpe_unused",
                      "sp_bpe_missing_characters", "sp_bpe_plain_spaces",
                      "sp_unigram_nmt_nfkc", "sp_unigram_bytes",
                      "sp_unigram_suffix"),
    [](const auto& info) { return std::string(info.param); });

// Every directory of goldens is among the kinds above.
TEST(TokenizerParityFilesTest, AllAreTested) {
  std::vector<std::string> tested;
  const auto* suite = ::testing::UnitTest::GetInstance();
  for (int i = 0; i < suite->total_test_suite_count(); ++i) {
    const auto* tests = suite->GetTestSuite(i);
    for (int j = 0; j < tests->total_test_count(); ++j) {
      const std::string name = tests->GetTestInfo(j)->name();
      const size_t slash = name.find('/');
      if (slash != std::string::npos) tested.push_back(name.substr(slash + 1));
    }
  }
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(DataDir())) {
    if (!entry.is_directory()) continue;
    ++count;
    EXPECT_THAT(tested, ::testing::Contains(entry.path().filename().string()));
  }
  EXPECT_GE(count, 20);
}

}  // namespace
}  // namespace sinklora
