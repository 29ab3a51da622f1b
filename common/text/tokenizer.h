// Text <-> token ids for the tokenizers that come with Llama-family models:
// byte-level and SentencePiece-like BPE of tokenizer.json, SentencePiece BPE
// and unigram models, tiktoken ranks.
//
// Thread-safe (immutable after loading).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_TOKENIZER_H_
#define SINKLORA_COMMON_TEXT_TOKENIZER_H_

#include <algorithm>
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

struct EncodeOptions {
  // Text that is a special token's becomes that token. Off: special tokens
  // never come out of a text, whatever it says.
  bool parse_special = false;

  // What stands before the text. Some tokenizers put a space before a text
  // unless it goes on from text encoded before; of those, some put one behind a
  // special token too.
  enum class Start { kText, kAfterToken, kContinued };
  Start start = Start::kText;
};

// What becomes of spaces at the very start of decoded text.
enum class LeadingSpace {
  kKept,
  kOneStripped,        // the one that Encode put there
  kOneOfEachStripped,  // one of each token until text begins
  kFirstTokenStripped  // all of the first token's
};

class Tokenizer {
 public:
  // Loads tokenizer.json (preferred) or tokenizer.model, SentencePiece's or
  // tiktoken's, from a model directory. kNotFound when it has neither;
  // kInvalidArgument naming the file, the field and the value for anything not
  // supported. Special token ids also come from tokenizer_config.json,
  // special_tokens_map.json or config.json when present.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> LoadFromDirectory(
      const std::string& directory);

  virtual ~Tokenizer() = default;

  // Ids of `text`, without begin or end token. Invalid UTF-8 (lone surrogates
  // too) is kInvalidArgument with the byte offset: what became of it elsewhere
  // differs from library to library. Time is linear in the text's length up to
  // a log factor.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text, const EncodeOptions& options = {}) const = 0;
  // Bytes of the ids, special tokens left out; may be invalid UTF-8 when ids
  // were cut inside a character. kInvalidArgument for an id outside [0,
  // vocab_size).
  virtual absl::StatusOr<std::string> Decode(
      std::span<const int32_t> ids) const = 0;
  // Bytes that one id contributes in the middle of a text (nothing for a
  // special token).
  virtual std::string TokenBytes(int32_t id) const = 0;
  virtual LeadingSpace leading_space() const = 0;
  // True for a token whose leading space is not a marked one: it stays.
  virtual bool KeepsLeadingSpace(int32_t id) const = 0;
  virtual int32_t vocab_size() const = 0;
  // Id of a special (added) token by its exact text, e.g. "<|im_start|>".
  virtual std::optional<int32_t> SpecialTokenId(
      std::string_view text) const = 0;

  // The token that texts begin with; nullopt where the model's own tokenizer
  // puts none before them, even if its files name one.
  std::optional<int32_t> bos_id() const { return bos_id_; }
  std::optional<int32_t> eos_id() const { return eos_id_; }
  // The token to begin a chat with whose template begins with "the begin
  // token": the named one, whether or not texts begin with it.
  std::optional<int32_t> named_bos_id() const { return named_bos_id_; }
  // SHA-256 of the tokenizer file: what datasets and models are matched by.
  const std::string& digest() const { return digest_; }

 protected:
  std::optional<int32_t> bos_id_;
  std::optional<int32_t> named_bos_id_;
  std::optional<int32_t> eos_id_;
  std::string digest_;
};

// Applies a tokenizer's rule for leading spaces, token by token.
class LeadingSpaceStripper {
 public:
  explicit LeadingSpaceStripper(const Tokenizer& tokenizer)
      : rule_(tokenizer.leading_space()) {}
  // What is left of `bytes`, the bytes of the next token.
  std::string_view Strip(std::string_view bytes, bool keeps_space) {
    if (rule_ == LeadingSpace::kKept || bytes.empty()) return bytes;
    if (!keeps_space && rule_ == LeadingSpace::kFirstTokenStripped) {
      bytes.remove_prefix(std::min(bytes.find_first_not_of(' '), bytes.size()));
    } else if (!keeps_space && bytes.front() == ' ') {
      bytes.remove_prefix(1);
    }
    if (rule_ != LeadingSpace::kOneOfEachStripped || !bytes.empty()) {
      rule_ = LeadingSpace::kKept;
    }
    return bytes;
  }

 private:
  LeadingSpace rule_;
};

// Decodes a growing sequence: each call returns the text that became certain,
// always whole UTF-8 characters. Bytes that can never become a character come
// out as U+FFFD. Not thread-safe. Borrows the tokenizer.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer* tokenizer)
      : tokenizer_(tokenizer), stripper_(*tokenizer) {}
  std::string Append(int32_t id);
  std::string Finish();  // what is left, incomplete characters as U+FFFD

 private:
  const Tokenizer* const tokenizer_;
  std::string pending_;
  LeadingSpaceStripper stripper_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_TOKENIZER_H_
