// Trains a byte-level BPE tokenizer from text and writes it as a Hugging Face
// tokenizer.json.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_BPE_TRAINER_H_
#define SINKLORA_COMMON_TEXT_BPE_TRAINER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sinklora {

struct BpeTrainerOptions {
  int32_t vocab_size = 4096;  // including the 256 bytes and the special tokens;
                              // >= 256 + special_tokens
  std::vector<std::string> special_tokens = {"<|begin|>",
                                             "<|end|>"};  // ids 0, 1, ...
};

// Deterministic: the most frequent pair first, ties by the smaller pair of ids.
// Pre-tokenization is GPT-2's. The text of a file that
// Tokenizer::LoadFromDirectory and the tokenizers library load alike.
absl::StatusOr<std::string> TrainByteLevelBpe(
    const std::vector<std::string>& texts, const BpeTrainerOptions& options);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_BPE_TRAINER_H_
