// SPDX-License-Identifier: Apache-2.0
#include "common/text/tokenizer_json.h"

#include <utility>

#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/text/byte_alphabet.h"
#include "common/text/byte_level_tokenizer.h"
#include "common/text/byte_token.h"
#include "common/text/json.h"
#include "common/text/metaspace_tokenizer.h"
#include "common/text/utf8.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

absl::Status CheckModel(const json& model, const std::string& what) {
  SL_ASSIGN_OR_RETURN(const auto type, GetString(model, "type", what));
  // Files of early versions have no type; only BPE has merges.
  if (type.value_or("BPE") != "BPE") {
    return absl::InvalidArgumentError(fmt::format(
        "{}: model.type \"{}\" is not supported, only BPE is", what, *type));
  }
  SL_ASSIGN_OR_RETURN(const auto dropout, GetNumber(model, "dropout", what));
  if (dropout.value_or(0) != 0) {
    return NotSupported(what, "model.dropout", model["dropout"]);
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    SL_ASSIGN_OR_RETURN(const auto value, GetString(model, key, what));
    if (!value.value_or("").empty()) {
      return NotSupported(what, fmt::format("model.{}", key), model[key]);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadModelFlags(const std::string& what, TokenizerJson* file) {
  const json& model = *file->model;
  SL_ASSIGN_OR_RETURN(const auto byte_fallback,
                      GetBool(model, "byte_fallback", what));
  file->byte_fallback = byte_fallback.value_or(false);
  SL_ASSIGN_OR_RETURN(const auto ignore_merges,
                      GetBool(model, "ignore_merges", what));
  file->ignore_merges = ignore_merges.value_or(false);
  SL_ASSIGN_OR_RETURN(const auto fuse_unknown,
                      GetBool(model, "fuse_unk", what));
  file->fuse_unknown = fuse_unknown.value_or(false);
  SL_ASSIGN_OR_RETURN(file->unknown_token, GetString(model, "unk_token", what));
  return absl::OkStatus();
}

// The tokens of the vocabulary, each with the bytes that `bytes_of(text)`
// gives.
template <typename BytesOf>
absl::StatusOr<Vocabulary> MakeVocabulary(const TokenizerJson& file,
                                          const std::string& what,
                                          BytesOf bytes_of) {
  VocabularyBuilder builder(what);
  StringViewMap<bool> is_added;
  for (const AddedToken& token : file.added_tokens) {
    const auto it = file.vocab.find(token.content);
    if (it != file.vocab.end() && it->second != token.id) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: token '{}' has id {} in added_tokens and {} in model.vocab",
          what, token.content, token.id, it->second));
    }
    is_added.emplace(token.content, true);
    SL_RETURN_IF_ERROR(
        token.special ? builder.AddSpecial(token.id, token.content)
                      : builder.AddToken(
                            token.id,
                            file.pipeline.byte_level
                                ? token.content
                                : absl::StrReplaceAll(token.content,
                                                      {{"\xE2\x96\x81", " "}}),
                            token.content));
  }
  for (const auto& [text, id] : file.vocab) {
    if (is_added.contains(text)) continue;
    SL_ASSIGN_OR_RETURN(std::string bytes, bytes_of(text));
    SL_RETURN_IF_ERROR(builder.AddToken(id, std::move(bytes), text));
  }
  SL_ASSIGN_OR_RETURN(Vocabulary vocabulary, builder.Build());
  vocabulary.leading_space = file.pipeline.leading_space;
  std::vector<AddedToken> raw, normalized;
  std::vector<std::string> raw_patterns, normalized_patterns;
  for (const AddedToken& token : file.added_tokens) {
    if (!token.normalized) {
      raw.push_back(token);
      raw_patterns.push_back(token.content);
      continue;
    }
    normalized.push_back(token);
    normalized_patterns.push_back(
        file.pipeline.normalizer.Normalize(token.content, /*may_prepend=*/true)
            .value_or(token.content));
  }
  vocabulary.raw_tokens =
      AddedTokenMatcher(std::move(raw), std::move(raw_patterns));
  vocabulary.normalized_tokens =
      AddedTokenMatcher(std::move(normalized), std::move(normalized_patterns));
  return vocabulary;
}

absl::StatusOr<std::unique_ptr<VocabTokenizer>> MakeByteLevel(
    const TokenizerJson& file, const std::string& what) {
  ByteLevelOptions options;
  options.normalizer = file.pipeline.normalizer;
  options.add_prefix_space = file.pipeline.add_prefix_space;
  options.ignore_merges = file.ignore_merges;
  for (const std::string& pattern : file.pipeline.split_patterns) {
    auto split = SplitRegex::Create(pattern);
    if (!split.ok()) {
      return Annotate(split.status(), what + ": pre_tokenizer");
    }
    options.splits.push_back(*std::move(split));
  }
  for (int byte = 0; byte < 256; ++byte) {
    const std::string& text = ByteToAlphabet(static_cast<uint8_t>(byte));
    const auto it = file.vocab.find(text);
    if (it == file.vocab.end()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: model.vocab has no token '{}' for byte 0x{:02x}",
                      what, text, byte));
    }
    options.byte_ids[byte] = it->second;
  }
  const auto bytes_of =
      [&](std::string_view text) -> absl::StatusOr<std::string> {
    std::optional<std::string> bytes = AlphabetToBytes(text);
    if (!bytes || bytes->empty()) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: model.vocab: token '{}' has characters outside the byte "
          "alphabet",
          what, text));
    }
    return *std::move(bytes);
  };
  SL_ASSIGN_OR_RETURN(options.vocabulary, MakeVocabulary(file, what, bytes_of));
  SL_ASSIGN_OR_RETURN(options.merges,
                      ParseMerges(*file.model, file.vocab, what));
  return std::make_unique<ByteLevelTokenizer>(std::move(options));
}

// What stands for characters without a token.
absl::Status SetFallback(const TokenizerJson& file, const std::string& what,
                         CharacterBpeOptions* options) {
  if (file.byte_fallback) {
    if (!file.pipeline.decodes_bytes) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: model.byte_fallback is true but the decoder has no ByteFallback",
          what));
    }
    for (int byte = 0; byte < 256; ++byte) {
      const std::string text = fmt::format("<0x{:02X}>", byte);
      const auto it = file.vocab.find(text);
      if (it == file.vocab.end()) {
        return absl::InvalidArgumentError(
            fmt::format("{}: model.byte_fallback is true but model.vocab has "
                        "no token {}",
                        what, text));
      }
      options->byte_ids[byte] = it->second;
    }
    return absl::OkStatus();
  }
  const auto it = file.vocab.find(file.unknown_token.value_or(""));
  if (it == file.vocab.end()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: model.unk_token is '{}', must be in model.vocab where "
                    "byte_fallback is false",
                    what, file.unknown_token.value_or("")));
  }
  options->unknown_id = it->second;
  options->fuse_unknown = file.fuse_unknown;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<VocabTokenizer>> MakeMetaspace(
    const TokenizerJson& file, const std::string& what) {
  if (file.ignore_merges) {
    return absl::InvalidArgumentError(
        fmt::format("{}: model.ignore_merges = true is not supported without "
                    "pre_tokenizer ByteLevel",
                    what));
  }
  const bool splits = file.pipeline.metaspace && file.pipeline.metaspace->split;
  const std::string space(kSpaceMark);
  CharacterBpeOptions options(
      splits ? WordBounds(space, WordBounds::Cut::kBeforeEachSpace)
             : WordBounds(space));
  SL_RETURN_IF_ERROR(SetFallback(file, what, &options));
  const auto bytes_of =
      [&](std::string_view text) -> absl::StatusOr<std::string> {
    if (text.empty()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: model.vocab has an empty token", what));
    }
    const auto byte = ParseByteToken(text);
    if (byte && file.pipeline.decodes_bytes) {
      return std::string(1, static_cast<char>(*byte));
    }
    options.words.AddToken(text);
    if (CharacterLength(text, 0) == text.size()) {
      options.characters[std::string(text)] = file.vocab.find(text)->second;
    }
    return absl::StrReplaceAll(std::string(text), {{"\xE2\x96\x81", " "}});
  };
  SL_ASSIGN_OR_RETURN(Vocabulary vocabulary,
                      MakeVocabulary(file, what, bytes_of));
  SL_ASSIGN_OR_RETURN(options.merges,
                      ParseMerges(*file.model, file.vocab, what));
  return std::make_unique<MetaspaceTokenizer>(
      std::move(vocabulary), file.pipeline.normalizer, file.pipeline.metaspace,
      std::move(options));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenizerJson>> ParseTokenizerJson(
    std::string_view text, const std::string& what) {
  auto file = std::make_unique<TokenizerJson>();
  SL_ASSIGN_OR_RETURN(file->root, ParseJsonObject(text, what));
  file->model = FindField(file->root, "model");
  if (file->model == nullptr || !file->model->is_object()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: model must be an object", what));
  }
  SL_RETURN_IF_ERROR(CheckModel(*file->model, what));
  SL_RETURN_IF_ERROR(ReadModelFlags(what, file.get()));
  SL_ASSIGN_OR_RETURN(file->pipeline, ParseTokenizerPipeline(file->root, what));
  SL_ASSIGN_OR_RETURN(file->added_tokens, ParseAddedTokens(file->root, what));
  SL_ASSIGN_OR_RETURN(file->vocab, ParseVocab(*file->model, what));
  return file;
}

absl::StatusOr<std::unique_ptr<VocabTokenizer>> MakeTokenizer(
    const TokenizerJson& file, const std::string& what) {
  return file.pipeline.byte_level ? MakeByteLevel(file, what)
                                  : MakeMetaspace(file, what);
}

}  // namespace sinklora
