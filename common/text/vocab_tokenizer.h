// What the tokenizers of this folder share: a table of the bytes behind each
// id, decoding, special tokens by name.
//
// Thread-safe (immutable once its identity is set).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_VOCAB_TOKENIZER_H_
#define SINKLORA_COMMON_TEXT_VOCAB_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/text/added_tokens.h"
#include "common/text/string_map.h"
#include "common/text/tokenizer.h"

namespace sinklora {

struct Vocabulary {
  // By id: what it contributes in the middle of a text; empty for special
  // tokens.
  std::vector<std::string> token_bytes;
  StringMap<int32_t> special_ids;
  LeadingSpace leading_space = LeadingSpace::kKept;
  absl::flat_hash_set<int32_t> keep_leading_space;
  // Looked for in the text as it is, and then in the normalized parts between.
  AddedTokenMatcher raw_tokens;
  AddedTokenMatcher normalized_tokens;
};

class VocabTokenizer : public Tokenizer {
 public:
  absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text, const EncodeOptions& options) const final;
  absl::StatusOr<std::string> Decode(std::span<const int32_t> ids) const final;
  std::string TokenBytes(int32_t id) const final;
  LeadingSpace leading_space() const final { return vocabulary_.leading_space; }
  bool KeepsLeadingSpace(int32_t id) const final {
    return vocabulary_.keep_leading_space.contains(id);
  }
  int32_t vocab_size() const final {
    return static_cast<int32_t>(vocabulary_.token_bytes.size());
  }
  std::optional<int32_t> SpecialTokenId(std::string_view text) const final;

  // For the loader, before the tokenizer is handed out.
  struct Identity {
    std::optional<int32_t> bos_id;
    std::optional<int32_t> eos_id;
    bool adds_bos = true;
    std::string digest;
  };
  void SetIdentity(Identity identity);

 protected:
  using Start = EncodeOptions::Start;

  explicit VocabTokenizer(Vocabulary vocabulary);
  // What becomes of a text between raw added tokens; nullopt: nothing.
  virtual std::optional<std::string> Normalize(std::string_view text,
                                               Start start) const = 0;
  // Appends the ids of normalized text without added tokens, not empty.
  virtual absl::Status EncodeNormalized(std::string_view text, Start start,
                                        std::vector<int32_t>* ids) const = 0;
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  absl::Status EncodePart(std::string_view text, Start start,
                          bool parse_special, std::vector<int32_t>* ids) const;

  const Vocabulary vocabulary_;
};

// Collects a Vocabulary while a file is read, checking that ids are unique and
// leave no hole.
class VocabularyBuilder {
 public:
  // `what` names the file in errors.
  explicit VocabularyBuilder(std::string what) : what_(std::move(what)) {}
  // kInvalidArgument for an id that is negative, absurd (over 2^24) or taken.
  absl::Status AddToken(int64_t id, std::string bytes, std::string_view name);
  // A special token may replace an ordinary token of the same id.
  absl::Status AddSpecial(int64_t id, std::string_view text);
  absl::StatusOr<Vocabulary> Build();

 private:
  absl::Status CheckId(int64_t id, std::string_view name) const;
  const std::string what_;
  // By id; a file may claim any.
  absl::flat_hash_map<int32_t, std::string> token_bytes_;
  StringMap<int32_t> special_ids_;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_VOCAB_TOKENIZER_H_
