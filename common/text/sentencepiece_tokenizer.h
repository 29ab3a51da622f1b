// BPE and unigram models of SentencePiece's tokenizer.model.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_SENTENCEPIECE_TOKENIZER_H_
#define SINKLORA_COMMON_TEXT_SENTENCEPIECE_TOKENIZER_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/added_tokens.h"
#include "common/text/character_bpe.h"
#include "common/text/sentencepiece_file.h"
#include "common/text/sentencepiece_normalizer.h"
#include "common/text/unigram_model.h"
#include "common/text/vocab_tokenizer.h"

namespace sinklora {

// Control pieces are special tokens. `added_tokens` are those beyond the model;
// `what` names the file in errors.
absl::StatusOr<std::unique_ptr<VocabTokenizer>> MakeSentencePieceTokenizer(
    const SentencePieceFile& file, const std::vector<AddedToken>& added_tokens,
    const std::string& what);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_SENTENCEPIECE_TOKENIZER_H_
