// SPDX-License-Identifier: Apache-2.0
#include "common/text/special_ids.h"

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/json.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

// "<s>" or {"content": "<s>", ...}
absl::StatusOr<std::optional<int32_t>> IdByText(const json& object,
                                                const char* key,
                                                const Tokenizer& tokenizer,
                                                const std::string& what) {
  const json* field = FindField(object, key);
  if (field == nullptr) return std::optional<int32_t>();
  const json* content =
      field->is_object() ? FindField(*field, "content") : field;
  if (content == nullptr || !content->is_string()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} is {}, must be a token's text", what, key,
                    JsonExcerpt(*field)));
  }
  const std::string text = content->get<std::string>();
  if (text.empty()) return std::optional<int32_t>();
  const std::optional<int32_t> id = tokenizer.SpecialTokenId(text);
  if (!id) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} '{}' is not a special token of the tokenizer", what,
                    key, text));
  }
  return id;
}

absl::StatusOr<std::optional<int32_t>> IdByNumber(const json& object,
                                                  const char* key,
                                                  const Tokenizer& tokenizer,
                                                  const std::string& what) {
  const json* field = FindField(object, key);
  if (field != nullptr && field->is_array() && !field->empty()) {
    field = &field->front();
  }
  if (field == nullptr) return std::optional<int32_t>();
  if (!field->is_number_unsigned() ||
      field->get<uint64_t>() >= static_cast<uint64_t>(tokenizer.vocab_size())) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} is {}, must be an id in [0, {})", what, key,
                    JsonExcerpt(*field), tokenizer.vocab_size()));
  }
  return std::optional<int32_t>(field->get<int32_t>());
}

}  // namespace

absl::StatusOr<SpecialIds> ReadSpecialIds(const std::string& directory,
                                          const Tokenizer& tokenizer) {
  struct Source {
    const char* file;
    bool by_text;
  };
  SpecialIds ids;
  for (const Source& source : {Source{"tokenizer_config.json", true},
                               Source{"special_tokens_map.json", true},
                               Source{"generation_config.json", false},
                               Source{"config.json", false}}) {
    const std::string path = JoinPath(directory, source.file);
    if (!FileExists(path)) continue;
    SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    SL_ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, path));
    const auto read = source.by_text ? IdByText : IdByNumber;
    const auto key = [&](const char* by_text, const char* by_number) {
      return source.by_text ? by_text : by_number;
    };
    if (!ids.bos) {
      SL_ASSIGN_OR_RETURN(
          ids.bos,
          read(object, key("bos_token", "bos_token_id"), tokenizer, path));
    }
    if (!ids.eos) {
      SL_ASSIGN_OR_RETURN(
          ids.eos,
          read(object, key("eos_token", "eos_token_id"), tokenizer, path));
    }
  }
  return ids;
}

absl::StatusOr<std::map<std::string, int32_t>> ReadAddedTokens(
    const std::string& directory) {
  std::map<std::string, int32_t> tokens;
  const std::string path = JoinPath(directory, "added_tokens.json");
  if (!FileExists(path)) return tokens;
  SL_ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
  SL_ASSIGN_OR_RETURN(const json object, ParseJsonObject(content, path));
  for (auto it = object.begin(); it != object.end(); ++it) {
    SL_ASSIGN_OR_RETURN(const auto id,
                        GetInt(object, it.key().c_str(), 0, INT32_MAX, path));
    if (!id || it.key().empty()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: '{}' has no id", path, it.key()));
    }
    tokens[it.key()] = static_cast<int32_t>(*id);
  }
  return tokens;
}

}  // namespace sinklora
