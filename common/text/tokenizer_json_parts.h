// The parts of tokenizer.json that both kinds of BPE models have.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_TOKENIZER_JSON_PARTS_H_
#define SINKLORA_COMMON_TEXT_TOKENIZER_JSON_PARTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/text/merge_table.h"
#include "common/text/string_map.h"
#include "nlohmann/json.hpp"

namespace sinklora {

struct AddedToken {
  int64_t id = 0;
  std::string content;
  bool special = false;
};

// kInvalidArgument for entries that are malformed or, when not special, that
// match in ways not supported (single_word, lstrip, rstrip).
absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(
    const nlohmann::json& root, const std::string& what);

// The tokens' texts are views into `root`.
absl::StatusOr<StringViewMap<int32_t>> ParseVocab(const nlohmann::json& model,
                                                  const std::string& what);

// Merges spelled "a b" or ["a", "b"], in the order of their ranks.
absl::StatusOr<MergeTable> ParseMerges(const nlohmann::json& model,
                                       const StringViewMap<int32_t>& vocab,
                                       const std::string& what);

// The "type" of a part such as the normalizer; "null" for an absent part.
std::string PartType(const nlohmann::json* part);
// kInvalidArgument: "<what>: <field> <excerpt of value> is not supported".
absl::Status NotSupported(const std::string& what, const std::string& field,
                          const nlohmann::json& value);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_TOKENIZER_JSON_PARTS_H_
