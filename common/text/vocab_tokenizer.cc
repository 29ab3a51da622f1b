// SPDX-License-Identifier: Apache-2.0
#include "common/text/vocab_tokenizer.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/text/utf8.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

// Positions in a text are kept in 32 bits.
constexpr size_t kMaxTextBytes = size_t{1} << 30;
constexpr int64_t kMaxId = int64_t{1} << 24;

}  // namespace

VocabTokenizer::VocabTokenizer(Vocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)) {}

absl::StatusOr<std::vector<int32_t>> VocabTokenizer::Encode(
    std::string_view text, const EncodeOptions& options) const {
  if (text.empty()) return std::vector<int32_t>();
  if (text.size() >= kMaxTextBytes) {
    return absl::InvalidArgumentError(
        fmt::format("text of {} bytes is too long to tokenize in one call, the "
                    "limit is {}",
                    text.size(), kMaxTextBytes));
  }
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != std::string_view::npos) {
    return absl::InvalidArgumentError(
        fmt::format("text is not valid UTF-8: byte 0x{:02x} at offset {}",
                    static_cast<uint8_t>(text[invalid]), invalid));
  }
  std::vector<int32_t> ids;
  absl::Status status;
  vocabulary_.raw_tokens.Split(
      text, options.parse_special, [&](const AddedTokenMatcher::Part& part) {
        if (part.id >= 0) {
          ids.push_back(part.id);
        } else if (status.ok()) {
          const bool first = part.text.data() == text.data();
          status =
              EncodePart(part.text, first ? options.start : Start::kAfterToken,
                         options.parse_special, &ids);
        }
      });
  SL_RETURN_IF_ERROR(status);
  return ids;
}

absl::Status VocabTokenizer::EncodePart(std::string_view text, Start start,
                                        bool parse_special,
                                        std::vector<int32_t>* ids) const {
  const std::optional<std::string> normalized = Normalize(text, start);
  if (normalized) text = *normalized;
  absl::Status status;
  vocabulary_.normalized_tokens.Split(
      text, parse_special, [&](const AddedTokenMatcher::Part& part) {
        if (part.id >= 0) {
          ids->push_back(part.id);
        } else if (status.ok()) {
          const bool first = part.text.data() == text.data();
          status = EncodeNormalized(part.text,
                                    first ? start : Start::kAfterToken, ids);
        }
      });
  return status;
}

absl::StatusOr<std::string> VocabTokenizer::Decode(
    std::span<const int32_t> ids) const {
  std::string text;
  LeadingSpaceStripper stripper(*this);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size()) {
      return absl::InvalidArgumentError(
          fmt::format("token id {} at position {} is outside [0, {})", ids[i],
                      i, vocab_size()));
    }
    text += stripper.Strip(vocabulary_.token_bytes[ids[i]],
                           KeepsLeadingSpace(ids[i]));
  }
  return text;
}

std::string VocabTokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return std::string();
  return vocabulary_.token_bytes[id];
}

std::optional<int32_t> VocabTokenizer::SpecialTokenId(
    std::string_view text) const {
  const auto it = vocabulary_.special_ids.find(text);
  if (it == vocabulary_.special_ids.end()) return std::nullopt;
  return it->second;
}

void VocabTokenizer::SetIdentity(Identity identity) {
  named_bos_id_ = identity.bos_id;
  if (identity.adds_bos) bos_id_ = identity.bos_id;
  eos_id_ = identity.eos_id;
  digest_ = std::move(identity.digest);
}

absl::Status VocabularyBuilder::CheckId(int64_t id,
                                        std::string_view name) const {
  if (id >= 0 && id <= kMaxId) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{}: token '{}' has id {}, must be in [0, {}]", what_, name, id, kMaxId));
}

absl::Status VocabularyBuilder::AddToken(int64_t id, std::string bytes,
                                         std::string_view name) {
  SL_RETURN_IF_ERROR(CheckId(id, name));
  if (token_bytes_.try_emplace(static_cast<int32_t>(id), std::move(bytes))
          .second) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("{}: token '{}' has id {}, which another token has too",
                  what_, name, id));
}

absl::Status VocabularyBuilder::AddSpecial(int64_t id, std::string_view text) {
  SL_RETURN_IF_ERROR(CheckId(id, text));
  const auto [it, inserted] =
      special_ids_.try_emplace(std::string(text), static_cast<int32_t>(id));
  if (!inserted && it->second != id) {
    return absl::InvalidArgumentError(
        fmt::format("{}: special token '{}' has ids {} and {}", what_, text,
                    it->second, id));
  }
  token_bytes_[static_cast<int32_t>(id)].clear();
  return absl::OkStatus();
}

absl::StatusOr<Vocabulary> VocabularyBuilder::Build() {
  if (token_bytes_.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: the vocabulary is empty", what_));
  }
  Vocabulary vocabulary;
  vocabulary.token_bytes.resize(token_bytes_.size());
  for (size_t id = 0; id < token_bytes_.size(); ++id) {
    const auto it = token_bytes_.find(static_cast<int32_t>(id));
    if (it == token_bytes_.end()) {
      int32_t last = 0;
      for (const auto& [known, bytes] : token_bytes_) {
        last = std::max(last, known);
      }
      return absl::InvalidArgumentError(fmt::format(
          "{}: id {} has no token, but ids go up to {}", what_, id, last));
    }
    vocabulary.token_bytes[id] = std::move(it->second);
  }
  vocabulary.special_ids = std::move(special_ids_);
  return vocabulary;
}

}  // namespace sinklora
