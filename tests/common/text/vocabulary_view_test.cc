// SPDX-License-Identifier: Apache-2.0
#include "common/text/vocabulary_view.h"

#include <cstdlib>

#include "tests/common/text/test_tokenizers.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

VocabularyView Read(const std::string& kind) {
  const char* source = std::getenv("SINKLORA_SOURCE_DIR");
  return ReadVocabularyView(JoinPath(source == nullptr ? "." : source,
                                     "tests/parity/data/tokenizers/" + kind))
      .value();
}

void ExpectSizes(const VocabularyView& view, size_t size) {
  EXPECT_EQ(view.pieces.size(), size);
  EXPECT_EQ(view.scores.size(), size);
  EXPECT_EQ(view.types.size(), size);
}

TEST(VocabularyViewTest, ByteLevelFiles) {
  const VocabularyView view = Read("qwen2");
  EXPECT_EQ(view.kind, VocabularyKind::kByteLevelBpe);
  EXPECT_EQ(view.pre_tokenizer, "qwen2");
  ExpectSizes(view, 430);
  EXPECT_EQ(view.merges.size(), 420u - 256);
  EXPECT_EQ(view.types[420], PieceType::kControl);
  EXPECT_EQ(view.pieces[420], "<|endoftext|>");
  EXPECT_EQ(view.types[423], PieceType::kUserDefined);
  EXPECT_EQ(view.types[0], PieceType::kNormal);
  EXPECT_FALSE(view.add_space_prefix);
  EXPECT_EQ(Read("gpt2").pre_tokenizer, "gpt-2");
  EXPECT_EQ(Read("llama3").pre_tokenizer, "llama-bpe");
  EXPECT_EQ(Read("smollm").pre_tokenizer, "smollm");
  EXPECT_EQ(Read("tekken").pre_tokenizer, "tekken");
  EXPECT_EQ(Read("digits_runs").pre_tokenizer, "");
}

// The merges that tiktoken's ranks stand for are the trained ones: both files
// were made from the same vocabulary.
TEST(VocabularyViewTest, TiktokenFiles) {
  const VocabularyView view = Read("tiktoken");
  const VocabularyView json = Read("llama3");
  EXPECT_EQ(view.pre_tokenizer, "llama-bpe");
  ExpectSizes(view, 420 + 256);
  EXPECT_EQ(view.types[420], PieceType::kControl);
  EXPECT_EQ(view.bos_id, 420);
  EXPECT_TRUE(view.add_bos);
  for (const std::string& merge : json.merges) {
    EXPECT_THAT(view.merges, ::testing::Contains(merge));
  }
}

TEST(VocabularyViewTest, SentencePieceFiles) {
  const VocabularyView view = Read("sp_bpe_llama2");
  EXPECT_EQ(view.kind, VocabularyKind::kSentencePieceBpe);
  ExpectSizes(view, 640);
  EXPECT_EQ(view.types[0], PieceType::kUnknown);
  EXPECT_EQ(view.types[1], PieceType::kControl);
  EXPECT_EQ(view.types[3], PieceType::kUserDefined);
  EXPECT_EQ(view.types[5], PieceType::kByte);
  EXPECT_EQ(view.unknown_id, 0);
  EXPECT_EQ(view.bos_id, 1);
  EXPECT_EQ(view.eos_id, 2);
  EXPECT_TRUE(view.add_space_prefix);
  EXPECT_FALSE(view.remove_extra_spaces);
  EXPECT_THAT(view.merges, IsEmpty());
  EXPECT_THAT(view.character_map, IsEmpty());
  const VocabularyView unigram = Read("sp_unigram_nmt_nfkc");
  EXPECT_EQ(unigram.kind, VocabularyKind::kUnigram);
  EXPECT_TRUE(unigram.remove_extra_spaces);
  EXPECT_GT(unigram.character_map.size(), 100'000u);
}

// A converted file has merges only; the scores made from them order pieces as
// the original's do.
TEST(VocabularyViewTest, ScoresFromMerges) {
  const VocabularyView view = Read("llama2_prepend");
  const VocabularyView original = Read("sp_bpe_llama2");
  EXPECT_EQ(view.kind, VocabularyKind::kSentencePieceBpe);
  EXPECT_TRUE(view.add_space_prefix);
  EXPECT_EQ(view.types[0], PieceType::kUnknown);
  EXPECT_EQ(view.types[5], PieceType::kByte);
  size_t compared = 0;
  for (size_t id = 262; id < 640; ++id) {
    if (original.types[id] != PieceType::kNormal) continue;
    for (size_t other = id + 1; other < 640; ++other) {
      if (original.types[other] != PieceType::kNormal) continue;
      if (original.scores[id] <= original.scores[other]) continue;
      EXPECT_GE(view.scores[id], view.scores[other])
          << view.pieces[id] << " " << view.pieces[other];
      ++compared;
    }
  }
  EXPECT_GT(compared, 10'000u);
}

TEST(VocabularyViewTest, FilesBesideTheTokenizer) {
  const auto dir = TempDir::Create().value();
  const auto write = [&](const char* name, const std::string& content) {
    ASSERT_OK(WriteFileAtomic(JoinPath(dir->path(), name), content));
  };
  EXPECT_THAT(ReadVocabularyView(dir->path()),
              StatusIs(absl::StatusCode::kNotFound));
  write("tokenizer.json", testing::SmallTokenizerJson());
  write("tokenizer_config.json",
        R"({"bos_token": "<|begin|>", "eos_token": "<|end|>",
            "pad_token": "<|end|>", "add_bos_token": false,
            "add_eos_token": true, "chat_template": "{{ x }}"})");
  ASSERT_OK_AND_ASSIGN(const VocabularyView view,
                       ReadVocabularyView(dir->path()));
  EXPECT_EQ(view.bos_id, 0);
  EXPECT_EQ(view.eos_id, 1);
  EXPECT_EQ(view.padding_id, 1);
  EXPECT_EQ(view.unknown_id, std::nullopt);
  EXPECT_FALSE(view.add_bos);
  EXPECT_TRUE(view.add_eos);
  EXPECT_EQ(view.chat_template, "{{ x }}");
  EXPECT_THAT(
      std::vector<std::string>(view.pieces.begin(), view.pieces.begin() + 2),
      ElementsAre("<|begin|>", "<|end|>"));
}

}  // namespace
}  // namespace sinklora
