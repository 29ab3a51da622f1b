// What llama.cpp's names of byte-level pre-tokenizers (tokenizer.ggml.pre) mean
// in terms of tokenizer.json. Source: llama.cpp's src/llama-vocab.cpp.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_PRE_TOKENIZERS_H_
#define SINKLORA_COMMON_GGUF_PRE_TOKENIZERS_H_

#include <string>
#include <string_view>

namespace sinklora {

enum class PreSplit {
  kByteLevel,  // ByteLevel's own expression, GPT-2's
  kDigits,     // single digits first, then as kByteLevel
  kRegex,      // `regex` alone
};

struct PreTokenizer {
  PreSplit split;
  std::string_view regex;
  // A word that is a token as a whole is not built by merging.
  bool ignore_merges;
  // Whether a begin token is added when the file does not say.
  bool add_bos;
};

// nullptr for a name that is not known.
const PreTokenizer* FindPreTokenizer(std::string_view name);
// "gpt-2, llama-bpe, ...", for messages.
std::string PreTokenizerNames();

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_PRE_TOKENIZERS_H_
