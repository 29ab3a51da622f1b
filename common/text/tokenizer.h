// Text <-> token ids for the tokenizers that come with Llama-family models:
// byte-level BPE of tokenizer.json and SentencePiece BPE of tokenizer.model.
//
// Thread-safe (immutable after loading).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_TOKENIZER_H_
#define SINKLORA_COMMON_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinklora {

class Tokenizer {
 public:
  // Loads tokenizer.json (preferred) or tokenizer.model from a Hugging Face
  // directory. kNotFound when it has neither; kInvalidArgument naming the file,
  // the field and the value for anything not supported. Special token ids also
  // come from tokenizer_config.json, special_tokens_map.json or config.json
  // when present.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> LoadFromDirectory(
      const std::string& directory);

  virtual ~Tokenizer() = default;

  // Ids of `text`, without begin or end token. Text that looks like a special
  // token is ordinary text here. Invalid UTF-8 is kInvalidArgument with the
  // byte offset. Time is linear in the text's length up to a log factor.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text) const = 0;
  // Bytes of the ids, special tokens left out; may be invalid UTF-8 when ids
  // were cut inside a character. kInvalidArgument for an id outside [0,
  // vocab_size).
  virtual absl::StatusOr<std::string> Decode(
      std::span<const int32_t> ids) const = 0;
  // Bytes that one id contributes in the middle of a text (nothing for a
  // special token).
  virtual std::string TokenBytes(int32_t id) const = 0;
  // True when a leading space of the very first decoded token belongs to the
  // tokenizer, not to the text.
  virtual bool strips_leading_space() const = 0;
  virtual int32_t vocab_size() const = 0;
  // Id of a special (added) token by its exact text, e.g. "<|im_start|>".
  virtual std::optional<int32_t> SpecialTokenId(
      std::string_view text) const = 0;

  std::optional<int32_t> bos_id() const { return bos_id_; }
  std::optional<int32_t> eos_id() const { return eos_id_; }
  // SHA-256 of the tokenizer file: what datasets and models are matched by.
  const std::string& digest() const { return digest_; }

 protected:
  std::optional<int32_t> bos_id_;
  std::optional<int32_t> eos_id_;
  std::string digest_;
};

// Decodes a growing sequence: each call returns the text that became certain,
// always whole UTF-8 characters. Bytes that can never become a character come
// out as U+FFFD. Not thread-safe. Borrows the tokenizer.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}
  std::string Append(int32_t id);
  std::string Finish();  // what is left, incomplete characters as U+FFFD

 private:
  const Tokenizer* const tokenizer_;
  std::string pending_;
  bool at_start_ = true;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_TOKENIZER_H_
