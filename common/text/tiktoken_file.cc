// SPDX-License-Identifier: Apache-2.0
#include "common/text/tiktoken_file.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/escaping.h"
#include "common/base/status.h"
#include "common/text/byte_level_tokenizer.h"
#include "common/text/string_map.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr int kReservedTokens = 256;

std::vector<std::string> Llama3SpecialTokens() {
  std::vector<std::string> tokens = {"<|begin_of_text|>",
                                     "<|end_of_text|>",
                                     "<|reserved_special_token_0|>",
                                     "<|reserved_special_token_1|>",
                                     "<|reserved_special_token_2|>",
                                     "<|reserved_special_token_3|>",
                                     "<|start_header_id|>",
                                     "<|end_header_id|>",
                                     "<|reserved_special_token_4|>",
                                     "<|eot_id|>"};
  for (int i = 5; tokens.size() < kReservedTokens; ++i) {
    tokens.push_back(fmt::format("<|reserved_special_token_{}|>", i));
  }
  return tokens;
}

// The two fields of a line; false when it has another form.
bool ParseLine(std::string_view line, std::string* token, int64_t* rank) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0) return false;
  const std::string_view number = line.substr(space + 1);
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), *rank);
  return error == std::errc() && end == number.data() + number.size() &&
         absl::Base64Unescape(std::string(line.substr(0, space)), token) &&
         !token->empty();
}

}  // namespace

const std::string_view kLlama3Regex =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

bool IsTiktokenFile(std::string_view data) {
  // The other form begins with a line feed, the tag of its first field.
  std::string token;
  int64_t rank = 0;
  return ParseLine(data.substr(0, data.find('\n')), &token, &rank);
}

absl::StatusOr<TiktokenFile> ParseTiktokenFile(std::string_view data,
                                               const std::string& what) {
  TiktokenFile file;
  StringMap<int32_t> seen;
  while (!data.empty()) {
    const size_t end = std::min(data.find('\n'), data.size());
    const std::string_view line = data.substr(0, end);
    data.remove_prefix(std::min(end + 1, data.size()));
    const auto next = static_cast<int64_t>(file.tokens.size());
    std::string token;
    int64_t rank = 0;
    if (!ParseLine(line, &token, &rank) || rank != next) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: line {} is '{}', must be a token in Base64, a space and the "
          "rank {}",
          what, next + 1, absl::CEscape(std::string(line.substr(0, 80))),
          next));
    }
    if (!seen.try_emplace(token, rank).second) {
      return absl::InvalidArgumentError(
          fmt::format("{}: line {}: the token is that of line {} again", what,
                      next + 1, seen[token] + 1));
    }
    file.tokens.push_back(std::move(token));
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (seen.contains(std::string(1, static_cast<char>(byte)))) continue;
    return absl::InvalidArgumentError(
        fmt::format("{}: no token for byte 0x{:02x}", what, byte));
  }
  file.special_tokens = Llama3SpecialTokens();
  return file;
}

std::vector<TiktokenMerge> TiktokenMerges(const TiktokenFile& file) {
  StringViewMap<int32_t> ids;
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    ids.emplace(file.tokens[id], static_cast<int32_t>(id));
  }
  std::vector<TiktokenMerge> merges;
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const std::string_view token = file.tokens[id];
    const size_t first = merges.size();
    for (size_t middle = 1; middle < token.size(); ++middle) {
      const auto left = ids.find(token.substr(0, middle));
      if (left == ids.end()) continue;
      const auto right = ids.find(token.substr(middle));
      if (right == ids.end()) continue;
      merges.push_back({left->second, right->second, static_cast<int32_t>(id)});
    }
    std::sort(merges.begin() + static_cast<int64_t>(first), merges.end(),
              [](const TiktokenMerge& a, const TiktokenMerge& b) {
                return std::pair(a.left, a.right) < std::pair(b.left, b.right);
              });
  }
  return merges;
}

absl::StatusOr<std::unique_ptr<VocabTokenizer>> MakeTokenizer(
    const TiktokenFile& file, const std::string& what) {
  ByteLevelOptions options;
  // A piece that is a token is that token, whatever its parts.
  options.ignore_merges = true;
  VocabularyBuilder builder(what);
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const std::string& token = file.tokens[id];
    if (token.size() == 1) {
      options.byte_ids[static_cast<uint8_t>(token[0])] =
          static_cast<int32_t>(id);
    }
    SL_RETURN_IF_ERROR(
        builder.AddToken(static_cast<int64_t>(id), token, token));
  }
  std::vector<AddedToken> special_tokens;
  for (const std::string& text : file.special_tokens) {
    const auto id =
        static_cast<int64_t>(file.tokens.size() + special_tokens.size());
    SL_RETURN_IF_ERROR(builder.AddSpecial(id, text));
    special_tokens.push_back({id, text, /*special=*/true});
  }
  // Equal ranks of all ways to make a token: the leftmost goes first.
  for (const TiktokenMerge& merge : TiktokenMerges(file)) {
    options.merges.Add(merge.left, merge.right, merge.merged, merge.merged);
  }
  SL_ASSIGN_OR_RETURN(auto split, SplitRegex::Create(kLlama3Regex));
  options.splits.push_back(std::move(split));
  SL_ASSIGN_OR_RETURN(options.vocabulary, builder.Build());
  options.vocabulary.raw_tokens =
      AddedTokenMatcher(std::move(special_tokens), file.special_tokens);
  return std::make_unique<ByteLevelTokenizer>(std::move(options));
}

}  // namespace sinklora
