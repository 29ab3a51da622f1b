// What llama.cpp's names of byte-level pre-tokenizers (tokenizer.ggml.pre)
// mean. Source: llama.cpp's src/llama-vocab.cpp.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_PRE_TOKENIZERS_H_
#define SINKLORA_COMMON_GGUF_PRE_TOKENIZERS_H_

#include <string>
#include <string_view>

namespace sinklora {

struct PreTokenizer {
  // As in VocabularyView.
  std::string_view pre_tokenizer;
  bool ignore_merges;
  // Whether a begin token is added when the file does not say.
  bool add_bos;
};

// nullptr for a name that is not known.
const PreTokenizer* FindPreTokenizer(std::string_view name);
// The first name that means this; empty when there is none.
std::string_view PreTokenizerName(std::string_view pre_tokenizer,
                                  bool ignore_merges);
// "gpt-2, llama-bpe, ...", for messages.
std::string PreTokenizerNames();

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_PRE_TOKENIZERS_H_
