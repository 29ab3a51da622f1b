// What the files beside a tokenizer say: its begin and end token, and tokens
// that the directory adds to it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_SPECIAL_IDS_H_
#define SINKLORA_COMMON_TEXT_SPECIAL_IDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/added_tokens.h"
#include "common/text/tokenizer.h"

namespace sinklora {

struct SpecialIds {
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  std::optional<int32_t> unknown;
  std::optional<int32_t> padding;
  // Whether texts begin (end) with the token; nullopt: the files do not say.
  std::optional<bool> adds_bos;
  std::optional<bool> adds_eos;
  // What the named tokenizer class does when nothing else is said.
  bool class_adds_bos = true;
};

// Each from the first that has it of tokenizer_config.json,
// special_tokens_map.json (by text; null: there is none),
// generation_config.json, config.json (by id; of a list the first).
// kInvalidArgument for a malformed file, a text that is no special token of
// `tokenizer`, an id outside its vocabulary.
absl::StatusOr<SpecialIds> ReadSpecialIds(const std::string& directory,
                                          const Tokenizer& tokenizer);

// Tokens that a directory adds to its tokenizer.model of `model_size` tokens:
// tokenizer_config.json's added_tokens_decoder, else added_tokens.json
// ({"text": id}, all special). Sorted by id. kInvalidArgument for malformed
// entries.
absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(
    const std::string& directory, int64_t model_size);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_SPECIAL_IDS_H_
