// SPDX-License-Identifier: Apache-2.0
#include "common/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/text/tokenizer_file.h"
#include "common/text/utf8.h"

namespace sinklora {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::LoadFromDirectory(
    const std::string& directory) {
  SL_ASSIGN_OR_RETURN(const TokenizerFile file, TokenizerFile::Read(directory));
  SL_ASSIGN_OR_RETURN(std::unique_ptr<VocabTokenizer> tokenizer, file.Make());
  SL_ASSIGN_OR_RETURN(const SpecialIds ids, file.FindSpecialIds(*tokenizer));
  tokenizer->SetIdentity({.bos_id = ids.bos,
                          .eos_id = ids.eos,
                          .adds_bos = ids.adds_bos.value_or(true),
                          .digest = file.digest});
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

std::string StreamDecoder::Append(int32_t id) {
  pending_ += stripper_.Strip(tokenizer_->TokenBytes(id),
                              tokenizer_->KeepsLeadingSpace(id));
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const size_t valid = std::min(FindInvalidUtf8(rest), rest.size());
    out += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    if (IsIncompleteUtf8(rest)) break;
    // One U+FFFD for the longest start of a character.
    size_t length = 1;
    while (IsIncompleteUtf8(rest.substr(0, length + 1))) ++length;
    out += kReplacement;
    rest.remove_prefix(length);
  }
  pending_ = std::string(rest);
  return out;
}

std::string StreamDecoder::Finish() {
  // What Append left is the start of one character.
  const bool incomplete = !pending_.empty();
  pending_.clear();
  stripper_ = LeadingSpaceStripper(*tokenizer_);
  return incomplete ? std::string(kReplacement) : std::string();
}

}  // namespace sinklora
