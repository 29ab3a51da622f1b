// The vocabulary of a model directory as its tokenizer file spells it, for
// writers of other formats.
//
// Read only, and read apart from a Tokenizer: a loaded Tokenizer keeps just
// what encoding needs. Thread-safe (plain data).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_VOCABULARY_VIEW_H_
#define SINKLORA_COMMON_TEXT_VOCABULARY_VIEW_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sinklora {

// How a vocabulary's tokens are put together.
enum class VocabularyKind {
  kByteLevelBpe,      // GPT-2, Llama 3, Qwen: merges over the byte alphabet
  kSentencePieceBpe,  // Llama 1 and 2, Mistral: U+2581 for a space
  kUnigram            // SentencePiece unigram
};

// SentencePiece's numbers, which are GGUF's too.
enum class PieceType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // special: stands for no text
  kUserDefined = 4,  // taken whole from the text (added, not special)
  kUnused = 5,
  kByte = 6  // "<0x41>"
};

struct VocabularyView {
  VocabularyKind kind = VocabularyKind::kByteLevelBpe;

  // By id, without holes; all three of the same size.
  // Text as in the file: byte alphabet for ordinary tokens of kByteLevelBpe,
  // U+2581 for a space otherwise; added tokens are plain text.
  std::vector<std::string> pieces;
  // Log probabilities of kUnigram, ranks in SentencePiece's way (the higher the
  // earlier) of kSentencePieceBpe, made from the merges where the file has no
  // scores; 0 for kByteLevelBpe.
  std::vector<float> scores;
  std::vector<PieceType> types;

  // "left right" in the order of their ranks; empty for files without merges
  // other than tiktoken's, whose merges follow from its ranks.
  std::vector<std::string> merges;

  // The regular expressions that text is split with, one after the other, and
  // the name that llama.cpp has for them ("gpt-2", "llama-bpe", "qwen2",
  // "smollm", "tekken"); empty where they are none of these. kByteLevelBpe
  // only.
  std::vector<std::string> split_patterns;
  std::string pre_tokenizer;
  // A piece of text that is a token as a whole is not built by merging.
  // kByteLevelBpe only.
  bool ignore_merges = false;

  std::optional<int32_t> bos_id;
  std::optional<int32_t> eos_id;
  std::optional<int32_t> unknown_id;
  std::optional<int32_t> padding_id;
  bool add_bos = false;  // before every text
  bool add_eos = false;  // behind every text
  bool add_space_prefix = false;
  bool remove_extra_spaces = false;
  // SentencePiece's precompiled_charsmap; empty: identity.
  std::string character_map;
  // The directory's default template; empty: none.
  std::string chat_template;
};

// What VocabularyView::split_patterns has for a pre_tokenizer; empty for a name
// that is not one of those above.
std::vector<std::string_view> SplitPatternsOf(std::string_view pre_tokenizer);

// Reads what Tokenizer::LoadFromDirectory would read, with its errors.
absl::StatusOr<VocabularyView> ReadVocabularyView(const std::string& directory);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_VOCABULARY_VIEW_H_
