// Byte-level BPE, as in GPT-2, Llama 3 and Qwen.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_BYTE_LEVEL_TOKENIZER_H_
#define SINKLORA_COMMON_TEXT_BYTE_LEVEL_TOKENIZER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/text/merge_table.h"
#include "common/text/split_regex.h"
#include "common/text/string_map.h"
#include "common/text/text_normalizer.h"
#include "common/text/vocab_tokenizer.h"

namespace sinklora {

struct ByteLevelOptions {
  Vocabulary vocabulary;
  MergeTable merges;
  std::array<int32_t, 256> byte_ids{};
  TextNormalizer normalizer;
  // Applied one after the other, each to the pieces of the one before.
  std::vector<std::unique_ptr<SplitRegex>> splits;
  bool add_prefix_space = false;
  // A piece that is a token as a whole is not built by merging.
  bool ignore_merges = false;
};

class ByteLevelTokenizer : public VocabTokenizer {
 public:
  explicit ByteLevelTokenizer(ByteLevelOptions options);

 protected:
  std::optional<std::string> Normalize(std::string_view text,
                                       Start start) const override {
    return normalizer_.Normalize(text, start != Start::kContinued);
  }
  absl::Status EncodeNormalized(std::string_view text, Start start,
                                std::vector<int32_t>* ids) const override;

 private:
  void EncodeWord(std::string_view word, MergeTable::Scratch* scratch,
                  std::vector<int32_t>* symbols) const;

  const MergeTable merges_;
  const std::array<int32_t, 256> byte_ids_;
  const TextNormalizer normalizer_;
  const std::vector<std::unique_ptr<SplitRegex>> splits_;
  const bool add_prefix_space_;
  StringViewMap<int32_t> whole_words_;  // views into the vocabulary
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_BYTE_LEVEL_TOKENIZER_H_
