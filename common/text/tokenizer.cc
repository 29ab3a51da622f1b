// SPDX-License-Identifier: Apache-2.0
#include "common/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/text/sentencepiece_model.h"
#include "common/text/special_ids.h"
#include "common/text/tokenizer_json.h"
#include "common/text/utf8.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::LoadFromDirectory(
    const std::string& directory) {
  const std::string json_path = JoinPath(directory, "tokenizer.json");
  const std::string model_path = JoinPath(directory, "tokenizer.model");
  const bool is_json = FileExists(json_path);
  const std::string& path = is_json ? json_path : model_path;
  if (!is_json && !FileExists(model_path)) {
    return absl::NotFoundError(fmt::format(
        "{} has neither tokenizer.json nor tokenizer.model", directory));
  }
  SL_ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
  std::unique_ptr<VocabTokenizer> tokenizer;
  SpecialIds own_ids;
  if (is_json) {
    SL_ASSIGN_OR_RETURN(tokenizer, ParseTokenizerJson(content, path));
  } else {
    SL_ASSIGN_OR_RETURN(const auto added, ReadAddedTokens(directory));
    SL_ASSIGN_OR_RETURN(
        tokenizer, ParseSentencePieceModel(content, path, added, &own_ids));
  }
  SL_ASSIGN_OR_RETURN(SpecialIds ids, ReadSpecialIds(directory, *tokenizer));
  if (!ids.bos) ids.bos = own_ids.bos;
  if (!ids.eos) ids.eos = own_ids.eos;
  tokenizer->SetIdentity(ids.bos, ids.eos, Sha256Hex(content));
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

std::string StreamDecoder::Append(int32_t id) {
  std::string bytes = tokenizer_->TokenBytes(id);
  if (at_start_ && !bytes.empty()) {
    at_start_ = false;
    if (tokenizer_->strips_leading_space() && bytes.front() == ' ') {
      bytes.erase(0, 1);
    }
  }
  pending_ += bytes;
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
  at_start_ = true;
  return incomplete ? std::string(kReplacement) : std::string();
}

}  // namespace sinklora
