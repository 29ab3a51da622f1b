// Reads tokenizer.json of the Hugging Face tokenizers library.
//
// Supported: model BPE, byte-level (pre_tokenizer ByteLevel, or a Sequence of
// Split, Digits and ByteLevel; normalizer NFC) or over characters as converted
// SentencePiece models have it (normalizer Prepend and Replace, or
// pre_tokenizer Metaspace). Everything else is refused by name. Of the
// post_processor only the begin and end token are used; truncation and padding
// are not.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_TOKENIZER_JSON_H_
#define SINKLORA_COMMON_TEXT_TOKENIZER_JSON_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/tokenizer_json_parts.h"
#include "common/text/tokenizer_json_pipeline.h"
#include "common/text/vocab_tokenizer.h"

namespace sinklora {

// A file, read and checked as far as its parts allow. Not to be moved: parts
// point into `root`.
struct TokenizerJson {
  nlohmann::json root;
  const nlohmann::json* model = nullptr;
  TokenizerPipeline pipeline;
  std::vector<AddedToken> added_tokens;
  StringViewMap<int32_t> vocab;
  bool byte_fallback = false;
  bool ignore_merges = false;
  bool fuse_unknown = false;
  std::optional<std::string> unknown_token;
};

// `what` names the file in errors, which are kInvalidArgument.
absl::StatusOr<std::unique_ptr<TokenizerJson>> ParseTokenizerJson(
    std::string_view text, const std::string& what);
absl::StatusOr<std::unique_ptr<VocabTokenizer>> MakeTokenizer(
    const TokenizerJson& file, const std::string& what);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_TOKENIZER_JSON_H_
