// Begin and end token of a Hugging Face directory, from the files beside the
// tokenizer.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_SPECIAL_IDS_H_
#define SINKLORA_COMMON_TEXT_SPECIAL_IDS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/text/tokenizer.h"

namespace sinklora {

struct SpecialIds {
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
};

// The first that names one of tokenizer_config.json, special_tokens_map.json
// (by text), generation_config.json, config.json (by id; of a list the first).
// kInvalidArgument for a malformed file, a text that is no special token of
// `tokenizer`, an id outside its vocabulary.
absl::StatusOr<SpecialIds> ReadSpecialIds(const std::string& directory,
                                          const Tokenizer& tokenizer);

// added_tokens.json, {"text": id}: tokens that a directory adds to its
// tokenizer.model. Empty when there is no such file.
absl::StatusOr<std::map<std::string, int32_t>> ReadAddedTokens(
    const std::string& directory);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_SPECIAL_IDS_H_
