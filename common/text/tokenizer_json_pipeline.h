// The parts of tokenizer.json around the model: normalizer, pre-tokenizer,
// decoder, post-processor. Each is read into what it does; whatever would do
// something else is refused by name.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_TOKENIZER_JSON_PIPELINE_H_
#define SINKLORA_COMMON_TEXT_TOKENIZER_JSON_PIPELINE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/metaspace_tokenizer.h"
#include "common/text/text_normalizer.h"
#include "common/text/tokenizer.h"
#include "nlohmann/json.hpp"

namespace sinklora {

struct TokenizerPipeline {
  TextNormalizer normalizer;
  bool normalizer_prepends_space = false;
  bool byte_level = false;  // the byte alphabet, else characters
  // byte_level only: regular expressions, one after the other.
  std::vector<std::string> split_patterns;
  bool add_prefix_space = false;
  // Not byte_level only.
  std::optional<Metaspace> metaspace;
  bool decodes_bytes = false;
  LeadingSpace leading_space = LeadingSpace::kKept;
  // The special token that the post-processor puts before or behind each text.
  std::optional<std::string> begin_token;
  std::optional<std::string> end_token;
};

// `what` names the file in errors, which are kInvalidArgument.
absl::StatusOr<TokenizerPipeline> ParseTokenizerPipeline(
    const nlohmann::json& root, const std::string& what);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_TOKENIZER_JSON_PIPELINE_H_
