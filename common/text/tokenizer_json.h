// Reads tokenizer.json of the Hugging Face tokenizers library.
//
// Supported: model BPE, either byte-level (pre_tokenizer ByteLevel, or a
// Sequence of isolating Splits and ByteLevel) or in the form of converted
// SentencePiece models (byte_fallback, spaces as U+2581). Everything else is
// refused by name. The post_processor, truncation and padding are not used: the
// caller adds begin and end tokens.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_TOKENIZER_JSON_H_
#define SINKLORA_COMMON_TEXT_TOKENIZER_JSON_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/text/vocab_tokenizer.h"

namespace sinklora {

// `what` names the file in errors, which are kInvalidArgument.
absl::StatusOr<std::unique_ptr<VocabTokenizer>> ParseTokenizerJson(
    std::string_view text, const std::string& what);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_TOKENIZER_JSON_H_
