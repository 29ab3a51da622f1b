// The tokenizer in a GGUF file's metadata (tokenizer.ggml.*).
//
// Two kinds are written and read: "gpt2", byte-level BPE by merges, and
// "llama", SentencePiece BPE by scores. llama.cpp gives the ids of the model's
// own tokenizer, but for two things that the format has no word for:
//   - it does not normalize (Qwen's NFC): text in another form gives other ids;
//   - it puts a space before every text, where a Metaspace pre-tokenizer with
//     prepend_scheme "first" leaves out a second one: text that begins with a
//     space gives other ids.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_GGUF_VOCABULARY_H_
#define SINKLORA_COMMON_GGUF_GGUF_VOCABULARY_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/gguf/gguf_file.h"
#include "common/gguf/gguf_writer.h"
#include "common/text/vocabulary_view.h"

namespace sinklora {

// Adds `vocabulary`, filled up to `vocab_size` with unused tokens "[PAD1234]".
// kInvalidArgument starting with `what` for what llama.cpp has no equal of or
// would abort on: unigram models, a character map, spaces to be removed, an
// unknown pre-tokenizer, two tokens of one text, more tokens than `vocab_size`,
// no end token (for which llama.cpp takes some ordinary token).
absl::Status AddVocabulary(const VocabularyView& vocabulary, int64_t vocab_size,
                           const std::string& what, GgufHeader* header);

// Reads it back, without the unused tokens at the end. kInvalidArgument naming
// file and key for another kind, a pre-tokenizer that is not known, lists of
// different lengths, texts that are not UTF-8, ids outside the vocabulary, a
// "llama" vocabulary whose scores were lost (all equal).
absl::StatusOr<VocabularyView> ParseVocabulary(const GgufFile& file);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_GGUF_VOCABULARY_H_
