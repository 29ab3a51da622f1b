// SPDX-License-Identifier: Apache-2.0
#include "common/text/tokenizer_json_parts.h"

#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/text/json.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

// The two halves of one merge; false when it has another form.
bool SplitMerge(const json& merge, std::string_view* left,
                std::string_view* right) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
      merge[1].is_string()) {
    *left = merge[0].get_ref<const std::string&>();
    *right = merge[1].get_ref<const std::string&>();
    return true;
  }
  if (!merge.is_string()) return false;
  const std::string_view text = merge.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string_view::npos) return false;
  *left = text.substr(0, space);
  *right = text.substr(space + 1);
  return right->find(' ') == std::string_view::npos;
}

}  // namespace

absl::StatusOr<AddedToken> ParseAddedToken(const json& entry,
                                           std::optional<int64_t> id,
                                           const std::string& what) {
  if (!entry.is_object()) return NotSupported(what, "entry", entry);
  AddedToken token;
  SL_ASSIGN_OR_RETURN(const auto content, GetString(entry, "content", what));
  SL_ASSIGN_OR_RETURN(const auto own_id,
                      GetInt(entry, "id", 0, INT32_MAX, what));
  if (own_id) id = own_id;
  if (!content || content->empty() || !id) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: id or content is missing in {}", what, JsonExcerpt(entry)));
  }
  token.content = *content;
  token.id = *id;
  SL_ASSIGN_OR_RETURN(const auto special, GetBool(entry, "special", what));
  token.special = special.value_or(false);
  SL_ASSIGN_OR_RETURN(const auto normalized,
                      GetBool(entry, "normalized", what));
  token.normalized = normalized.value_or(!token.special);
  SL_ASSIGN_OR_RETURN(const auto word, GetBool(entry, "single_word", what));
  token.single_word = word.value_or(false);
  SL_ASSIGN_OR_RETURN(const auto lstrip, GetBool(entry, "lstrip", what));
  token.lstrip = lstrip.value_or(false);
  SL_ASSIGN_OR_RETURN(const auto rstrip, GetBool(entry, "rstrip", what));
  token.rstrip = rstrip.value_or(false);
  return token;
}

absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(
    const json& root, const std::string& what) {
  std::vector<AddedToken> tokens;
  const json* list = FindField(root, "added_tokens");
  if (list == nullptr) return tokens;
  if (!list->is_array()) return NotSupported(what, "added_tokens", *list);
  for (size_t i = 0; i < list->size(); ++i) {
    SL_ASSIGN_OR_RETURN(
        AddedToken token,
        ParseAddedToken((*list)[i], std::nullopt,
                        fmt::format("{}: added_tokens[{}]", what, i)));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

absl::StatusOr<StringViewMap<int32_t>> ParseVocab(const json& model,
                                                  const std::string& what) {
  const json* vocab = FindField(model, "vocab");
  if (vocab == nullptr || !vocab->is_object() || vocab->empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: model.vocab must be a non-empty object", what));
  }
  StringViewMap<int32_t> ids;
  ids.reserve(vocab->size());
  for (auto it = vocab->begin(); it != vocab->end(); ++it) {
    const std::string& text = it.key();
    const json& id = it.value();
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      return absl::InvalidArgumentError(
          fmt::format("{}: model.vocab[\"{}\"] is {}, must be an id", what,
                      text, JsonExcerpt(id)));
    }
    ids.emplace(text, id.get<int32_t>());
  }
  return ids;
}

absl::StatusOr<std::vector<MergePair>> ParseMergePairs(
    const json& model, const std::string& what) {
  const json* merges = FindField(model, "merges");
  if (merges == nullptr || !merges->is_array()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: model.merges must be a list", what));
  }
  std::vector<MergePair> pairs(merges->size());
  for (size_t rank = 0; rank < merges->size(); ++rank) {
    const json& merge = (*merges)[rank];
    if (!SplitMerge(merge, &pairs[rank].first, &pairs[rank].second)) {
      return absl::InvalidArgumentError(
          fmt::format("{}: model.merges[{}] is {}, must be a pair", what, rank,
                      JsonExcerpt(merge)));
    }
  }
  return pairs;
}

absl::StatusOr<MergeTable> ParseMerges(const json& model,
                                       const StringViewMap<int32_t>& vocab,
                                       const std::string& what) {
  SL_ASSIGN_OR_RETURN(const auto pairs, ParseMergePairs(model, what));
  MergeTable table;
  table.Reserve(pairs.size());
  std::string merged;
  for (size_t rank = 0; rank < pairs.size(); ++rank) {
    const auto [left, right] = pairs[rank];
    merged.assign(left);
    merged += right;
    int32_t ids[3];
    const std::string_view parts[3] = {left, right, merged};
    for (int i = 0; i < 3; ++i) {
      const auto it = vocab.find(parts[i]);
      if (it == vocab.end()) {
        return absl::InvalidArgumentError(
            fmt::format("{}: model.merges[{}]: '{}' is not in model.vocab",
                        what, rank, parts[i]));
      }
      ids[i] = it->second;
    }
    table.Add(ids[0], ids[1], static_cast<int32_t>(rank), ids[2]);
  }
  return table;
}

std::string PartType(const json* part) {
  if (part == nullptr) return "null";
  const json* type = part->is_object() ? FindField(*part, "type") : nullptr;
  return type != nullptr && type->is_string() ? type->get<std::string>()
                                              : JsonExcerpt(*part);
}

absl::Status NotSupported(const std::string& what, const std::string& field,
                          const json& value) {
  return absl::InvalidArgumentError(fmt::format(
      "{}: {} {} is not supported", what, field, JsonExcerpt(value)));
}

}  // namespace sinklora
