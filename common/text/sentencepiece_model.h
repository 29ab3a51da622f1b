// Reads SentencePiece's tokenizer.model: BPE models with normalization by
// spaces alone, as Llama 1 and 2 have.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_SENTENCEPIECE_MODEL_H_
#define SINKLORA_COMMON_TEXT_SENTENCEPIECE_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/text/special_ids.h"
#include "common/text/vocab_tokenizer.h"

namespace sinklora {

// `what` names the file in errors: kInvalidArgument for malformed data, and
// naming what is not supported: model types other than BPE, a character map,
// spaces as suffixes, unused pieces. `added_tokens` are special tokens beyond
// the model, by text (added_tokens.json). *ids gets the model's own begin and
// end pieces.
absl::StatusOr<std::unique_ptr<VocabTokenizer>> ParseSentencePieceModel(
    std::string_view data, const std::string& what,
    const std::map<std::string, int32_t>& added_tokens, SpecialIds* ids);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_SENTENCEPIECE_MODEL_H_
