// Writes a vocabulary as the tokenizer files of a Hugging Face directory:
// tokenizer.json for byte-level BPE, tokenizer.model for SentencePiece BPE, and
// tokenizer_config.json with special tokens and chat template.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_TOKENIZER_FILES_H_
#define SINKLORA_COMMON_GGUF_TOKENIZER_FILES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "common/text/vocabulary_view.h"

namespace sinklora {

// Into the existing `directory`. REQUIRES: texts are UTF-8, ids are in the
// vocabulary.
absl::Status WriteTokenizerFiles(const VocabularyView& vocabulary,
                                 int64_t context_tokens,
                                 const std::string& directory);

// The text of tokenizer.json of a byte-level vocabulary.
std::string MakeTokenizerJson(const VocabularyView& vocabulary);
// The bytes of tokenizer.model of a SentencePiece BPE vocabulary.
std::string MakeSentencePieceModel(const VocabularyView& vocabulary);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_TOKENIZER_FILES_H_
