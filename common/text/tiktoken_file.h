// Reads tokenizer.model in tiktoken's form: a line for each token, its bytes in
// Base64 and its rank. Llama 3 comes with one in Meta's own directories.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_TIKTOKEN_FILE_H_
#define SINKLORA_COMMON_TEXT_TIKTOKEN_FILE_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/vocab_tokenizer.h"

namespace sinklora {

// What Llama 3 splits text with.
extern const std::string_view kLlama3Regex;

// True when the file is of this form rather than SentencePiece's.
bool IsTiktokenFile(std::string_view data);

struct TiktokenFile {
  std::vector<std::string> tokens;  // bytes, by rank, which is the id
  // The ids behind them: the 256 of Llama 3's fixed list.
  std::vector<std::string> special_tokens;
};

// kInvalidArgument naming `what` and the line: one that is malformed, a rank
// that is not the next one, a token given twice, a byte without a token.
absl::StatusOr<TiktokenFile> ParseTiktokenFile(std::string_view data,
                                               const std::string& what);

// Pairs of tokens that may merge into a token, as (left, right, merged) ids in
// the order of their ranks.
struct TiktokenMerge {
  int32_t left;
  int32_t right;
  int32_t merged;
};
std::vector<TiktokenMerge> TiktokenMerges(const TiktokenFile& file);

absl::StatusOr<std::unique_ptr<VocabTokenizer>> MakeTokenizer(
    const TiktokenFile& file, const std::string& what);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_TIKTOKEN_FILE_H_
