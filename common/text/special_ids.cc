// SPDX-License-Identifier: Apache-2.0
#include "common/text/special_ids.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/json.h"
#include "common/text/tokenizer_json_parts.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

constexpr char kConfigFile[] = "tokenizer_config.json";

// What a file says about a token: nothing, that there is none, or its id.
struct Answer {
  bool given = false;
  std::optional<int32_t> id;
};

// "<s>" or {"content": "<s>", ...} or null
absl::StatusOr<Answer> IdByText(const json& object, const char* key,
                                const Tokenizer& tokenizer,
                                const std::string& what) {
  const auto found = object.find(key);
  if (found == object.end()) return Answer();
  if (found->is_null()) return Answer{true, std::nullopt};
  const json* content =
      found->is_object() ? FindField(*found, "content") : &*found;
  if (content == nullptr || !content->is_string()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} is {}, must be a token's text", what, key,
                    JsonExcerpt(*found)));
  }
  const std::string text = content->get<std::string>();
  if (text.empty()) return Answer();
  const std::optional<int32_t> id = tokenizer.SpecialTokenId(text);
  if (!id) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} '{}' is not a special token of the tokenizer", what,
                    key, text));
  }
  return Answer{true, id};
}

absl::StatusOr<Answer> IdByNumber(const json& object, const char* key,
                                  const Tokenizer& tokenizer,
                                  const std::string& what) {
  const json* field = FindField(object, key);
  if (field != nullptr && field->is_array() && !field->empty()) {
    field = &field->front();
  }
  if (field == nullptr) return Answer();
  if (!field->is_number_unsigned() ||
      field->get<uint64_t>() >= static_cast<uint64_t>(tokenizer.vocab_size())) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} is {}, must be an id in [0, {})", what, key,
                    JsonExcerpt(*field), tokenizer.vocab_size()));
  }
  return Answer{true, field->get<int32_t>()};
}

// The object in `directory`/`name`; nullopt when there is no such file.
absl::StatusOr<std::optional<json>> ReadObject(const std::string& directory,
                                               const char* name) {
  const std::string path = JoinPath(directory, name);
  if (!FileExists(path)) return std::optional<json>();
  SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  SL_ASSIGN_OR_RETURN(json object, ParseJsonObject(text, path));
  return std::optional<json>(std::move(object));
}

absl::StatusOr<std::optional<int32_t>> FindId(const std::string& directory,
                                              const std::string& name,
                                              const Tokenizer& tokenizer) {
  struct Source {
    const char* file;
    bool by_text;
  };
  for (const Source& source :
       {Source{kConfigFile, true}, Source{"special_tokens_map.json", true},
        Source{"generation_config.json", false},
        Source{"config.json", false}}) {
    SL_ASSIGN_OR_RETURN(const auto object, ReadObject(directory, source.file));
    if (!object) continue;
    const auto read = source.by_text ? IdByText : IdByNumber;
    const std::string key = name + (source.by_text ? "" : "_id");
    SL_ASSIGN_OR_RETURN(const Answer answer,
                        read(*object, key.c_str(), tokenizer,
                             JoinPath(directory, source.file)));
    if (answer.given) return answer.id;
  }
  return std::optional<int32_t>();
}

absl::Status ReadConfig(const std::string& directory,
                        const Tokenizer& tokenizer, SpecialIds* ids) {
  SL_ASSIGN_OR_RETURN(const auto config, ReadObject(directory, kConfigFile));
  if (!config) return absl::OkStatus();
  const std::string what = JoinPath(directory, kConfigFile);
  SL_ASSIGN_OR_RETURN(ids->adds_bos, GetBool(*config, "add_bos_token", what));
  SL_ASSIGN_OR_RETURN(ids->adds_eos, GetBool(*config, "add_eos_token", what));
  SL_ASSIGN_OR_RETURN(const auto name,
                      GetString(*config, "tokenizer_class", what));
  for (const char* plain : {"GPT2Tokenizer", "GPT2TokenizerFast",
                            "Qwen2Tokenizer", "Qwen2TokenizerFast"}) {
    if (name == plain) ids->class_adds_bos = false;
  }
  const auto optional_id = [&](const char* key) -> std::optional<int32_t> {
    const auto answer = IdByText(*config, key, tokenizer, what);
    return answer.ok() ? answer->id : std::nullopt;
  };
  ids->unknown = optional_id("unk_token");
  ids->padding = optional_id("pad_token");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<AddedToken>> FromDecoder(const json& decoder,
                                                    int64_t model_size,
                                                    const std::string& what) {
  std::vector<AddedToken> tokens;
  for (auto it = decoder.begin(); it != decoder.end(); ++it) {
    const std::string& key = it.key();
    int64_t id = -1;
    const auto [end, error] =
        std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: added_tokens_decoder: '{}' is not an id", what, key));
    }
    SL_ASSIGN_OR_RETURN(
        AddedToken token,
        ParseAddedToken(
            it.value(), id,
            fmt::format("{}: added_tokens_decoder: {}", what, key)));
    // The model's own pieces are listed too.
    if (token.id >= model_size) tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

absl::StatusOr<SpecialIds> ReadSpecialIds(const std::string& directory,
                                          const Tokenizer& tokenizer) {
  SpecialIds ids;
  SL_RETURN_IF_ERROR(ReadConfig(directory, tokenizer, &ids));
  SL_ASSIGN_OR_RETURN(ids.bos, FindId(directory, "bos_token", tokenizer));
  SL_ASSIGN_OR_RETURN(ids.eos, FindId(directory, "eos_token", tokenizer));
  return ids;
}

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(
    const std::string& directory, int64_t model_size) {
  std::vector<AddedToken> tokens;
  SL_ASSIGN_OR_RETURN(const auto config, ReadObject(directory, kConfigFile));
  const json* decoder =
      config ? FindField(*config, "added_tokens_decoder") : nullptr;
  if (decoder != nullptr) {
    const std::string what = JoinPath(directory, kConfigFile);
    if (!decoder->is_object()) {
      return NotSupported(what, "added_tokens_decoder", *decoder);
    }
    SL_ASSIGN_OR_RETURN(tokens, FromDecoder(*decoder, model_size, what));
  } else {
    SL_ASSIGN_OR_RETURN(const auto object,
                        ReadObject(directory, "added_tokens.json"));
    if (!object) return tokens;
    const std::string what = JoinPath(directory, "added_tokens.json");
    for (auto it = object->begin(); it != object->end(); ++it) {
      SL_ASSIGN_OR_RETURN(
          const auto id, GetInt(*object, it.key().c_str(), 0, INT32_MAX, what));
      if (!id || it.key().empty()) {
        return absl::InvalidArgumentError(
            fmt::format("{}: '{}' has no id", what, it.key()));
      }
      tokens.push_back({*id, it.key(), /*special=*/true});
    }
  }
  std::sort(
      tokens.begin(), tokens.end(),
      [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return tokens;
}

}  // namespace sinklora
