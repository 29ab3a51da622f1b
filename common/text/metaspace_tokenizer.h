// BPE over characters in the form that tokenizer.json has for converted
// SentencePiece models (Llama 2, Mistral, TinyLlama).
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_METASPACE_TOKENIZER_H_
#define SINKLORA_COMMON_TEXT_METASPACE_TOKENIZER_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/text/character_bpe.h"
#include "common/text/text_normalizer.h"
#include "common/text/vocab_tokenizer.h"

namespace sinklora {

// The pre-tokenizer of that name: spaces become U+2581, and one is put before
// text that has none.
struct Metaspace {
  enum class Prepend { kNever, kFirst, kAlways };
  Prepend prepend = Prepend::kAlways;
  bool split = true;  // before each U+2581
};

class MetaspaceTokenizer : public VocabTokenizer {
 public:
  MetaspaceTokenizer(Vocabulary vocabulary, TextNormalizer normalizer,
                     std::optional<Metaspace> metaspace,
                     CharacterBpeOptions options);

 protected:
  std::optional<std::string> Normalize(std::string_view text,
                                       Start start) const override {
    return normalizer_.Normalize(text, start != Start::kContinued);
  }
  absl::Status EncodeNormalized(std::string_view text, Start start,
                                std::vector<int32_t>* ids) const override;

 private:
  const TextNormalizer normalizer_;
  const std::optional<Metaspace> metaspace_;
  TextNormalizer mark_spaces_;
  const CharacterBpe model_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_METASPACE_TOKENIZER_H_
