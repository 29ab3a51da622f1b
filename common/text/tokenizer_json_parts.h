// The parts of tokenizer.json that both kinds of BPE models have.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_TOKENIZER_JSON_PARTS_H_
#define SINKLORA_COMMON_TEXT_TOKENIZER_JSON_PARTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/text/added_tokens.h"
#include "common/text/merge_table.h"
#include "common/text/string_map.h"
#include "nlohmann/json.hpp"

namespace sinklora {

// One token of `entry` ({"content": ..., flags}), whose id is given when the
// entry has none. kInvalidArgument for a malformed entry.
absl::StatusOr<AddedToken> ParseAddedToken(const nlohmann::json& entry,
                                           std::optional<int64_t> id,
                                           const std::string& what);

// The list added_tokens, in the order of the file.
absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(
    const nlohmann::json& root, const std::string& what);

// The tokens' texts are views into `root`.
absl::StatusOr<StringViewMap<int32_t>> ParseVocab(const nlohmann::json& model,
                                                  const std::string& what);

// Merges spelled "a b" or ["a", "b"], in the order of their ranks: views into
// `model`, and the table of them.
using MergePair = std::pair<std::string_view, std::string_view>;
absl::StatusOr<std::vector<MergePair>> ParseMergePairs(
    const nlohmann::json& model, const std::string& what);
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
