// SPDX-License-Identifier: Apache-2.0
#include "common/text/tokenizer_json.h"

#include <optional>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/text/byte_alphabet.h"
#include "common/text/byte_level_tokenizer.h"
#include "common/text/character_tokenizer.h"
#include "common/text/json.h"
#include "common/text/tokenizer_json_parts.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

// Everything of the file that both kinds of models need.
struct Parts {
  const json* normalizer = nullptr;
  const json* pre_tokenizer = nullptr;
  const json* decoder = nullptr;
  const json* model = nullptr;
  std::vector<AddedToken> added_tokens;
  StringViewMap<int32_t> vocab;
  MergeTable merges;
};

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

absl::StatusOr<Parts> ParseParts(const json& root, const std::string& what) {
  Parts parts;
  parts.normalizer = FindField(root, "normalizer");
  parts.pre_tokenizer = FindField(root, "pre_tokenizer");
  parts.decoder = FindField(root, "decoder");
  parts.model = FindField(root, "model");
  if (parts.model == nullptr || !parts.model->is_object()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: model must be an object", what));
  }
  SL_RETURN_IF_ERROR(CheckModel(*parts.model, what));
  SL_ASSIGN_OR_RETURN(parts.added_tokens, ParseAddedTokens(root, what));
  SL_ASSIGN_OR_RETURN(parts.vocab, ParseVocab(*parts.model, what));
  SL_ASSIGN_OR_RETURN(parts.merges,
                      ParseMerges(*parts.model, parts.vocab, what));
  return parts;
}

absl::Status AddSplit(const json& part, const std::string& what,
                      std::vector<std::unique_ptr<SplitRegex>>* splits) {
  SL_ASSIGN_OR_RETURN(const auto behavior, GetString(part, "behavior", what));
  SL_ASSIGN_OR_RETURN(const auto invert, GetBool(part, "invert", what));
  const json* pattern = FindField(part, "pattern");
  if (behavior.value_or("") != "Isolated" || invert.value_or(false) ||
      pattern == nullptr || !pattern->is_object()) {
    return NotSupported(what, "pre_tokenizer", part);
  }
  SL_ASSIGN_OR_RETURN(const auto regex, GetString(*pattern, "Regex", what));
  if (!regex) return NotSupported(what, "pre_tokenizer pattern", *pattern);
  auto split = SplitRegex::Create(*regex);
  if (!split.ok()) {
    return Annotate(split.status(), what + ": pre_tokenizer");
  }
  splits->push_back(*std::move(split));
  return absl::OkStatus();
}

absl::Status AddByteLevel(const json& part, bool is_only,
                          const std::string& what, ByteLevelOptions* options) {
  SL_ASSIGN_OR_RETURN(const auto prefix,
                      GetBool(part, "add_prefix_space", what));
  SL_ASSIGN_OR_RETURN(const auto use_regex, GetBool(part, "use_regex", what));
  options->add_prefix_space = prefix.value_or(true);
  if (options->add_prefix_space && !is_only) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: pre_tokenizer: ByteLevel.add_prefix_space = true behind other "
        "splits is not supported",
        what));
  }
  if (use_regex.value_or(true)) {
    SL_ASSIGN_OR_RETURN(auto split, SplitRegex::Create(kGpt2Regex));
    options->splits.push_back(std::move(split));
  }
  return absl::OkStatus();
}

absl::Status ParsePreTokenizer(const json* part, const std::string& what,
                               ByteLevelOptions* options) {
  const std::string type = PartType(part);
  if (type == "ByteLevel") return AddByteLevel(*part, true, what, options);
  const json* steps =
      type == "Sequence" ? FindField(*part, "pretokenizers") : nullptr;
  if (steps == nullptr || !steps->is_array() || steps->empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: pre_tokenizer {} is not supported, only ByteLevel and Sequence of "
        "Split and ByteLevel are",
        what, type));
  }
  for (size_t i = 0; i < steps->size(); ++i) {
    const json& step = (*steps)[i];
    const bool last = i + 1 == steps->size();
    const std::string step_type = PartType(&step);
    if (!last && step_type == "Split") {
      SL_RETURN_IF_ERROR(AddSplit(step, what, &options->splits));
    } else if (last && step_type == "ByteLevel") {
      SL_RETURN_IF_ERROR(AddByteLevel(step, steps->size() == 1, what, options));
    } else {
      return NotSupported(what, fmt::format("pre_tokenizer step {}", i), step);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Vocabulary> ByteLevelVocabulary(const Parts& parts,
                                               const std::string& what,
                                               LiteralMatcher* literals) {
  VocabularyBuilder builder(what);
  StringViewMap<bool> is_added;
  for (const AddedToken& token : parts.added_tokens) {
    const auto it = parts.vocab.find(token.content);
    if (it != parts.vocab.end() && it->second != token.id) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: token '{}' has id {} in added_tokens and {} in model.vocab",
          what, token.content, token.id, it->second));
    }
    is_added.emplace(token.content, true);
    if (token.special) {
      SL_RETURN_IF_ERROR(builder.AddSpecial(token.id, token.content));
    } else {
      SL_RETURN_IF_ERROR(
          builder.AddToken(token.id, token.content, token.content));
      literals->Add(token.content, static_cast<int32_t>(token.id));
    }
  }
  for (const auto& [text, id] : parts.vocab) {
    if (is_added.contains(text)) continue;
    std::optional<std::string> bytes = AlphabetToBytes(text);
    if (!bytes || bytes->empty()) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: model.vocab: token '{}' has characters outside the byte "
          "alphabet",
          what, text));
    }
    SL_RETURN_IF_ERROR(builder.AddToken(id, *std::move(bytes), text));
  }
  return builder.Build();
}

absl::StatusOr<std::unique_ptr<VocabTokenizer>> MakeByteLevel(
    Parts parts, const std::string& what) {
  if (parts.normalizer != nullptr) {
    return absl::InvalidArgumentError(
        fmt::format("{}: normalizer {} is not supported", what,
                    PartType(parts.normalizer)));
  }
  ByteLevelOptions options;
  SL_RETURN_IF_ERROR(ParsePreTokenizer(parts.pre_tokenizer, what, &options));
  if (PartType(parts.decoder) != "ByteLevel") {
    return absl::InvalidArgumentError(
        fmt::format("{}: decoder {} is not supported, must be ByteLevel", what,
                    PartType(parts.decoder)));
  }
  SL_ASSIGN_OR_RETURN(const auto ignore_merges,
                      GetBool(*parts.model, "ignore_merges", what));
  options.ignore_merges = ignore_merges.value_or(false);
  for (int byte = 0; byte < 256; ++byte) {
    const std::string& text = ByteToAlphabet(static_cast<uint8_t>(byte));
    const auto it = parts.vocab.find(text);
    if (it == parts.vocab.end()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: model.vocab has no token '{}' for byte 0x{:02x}",
                      what, text, byte));
    }
    options.byte_ids[byte] = it->second;
  }
  SL_ASSIGN_OR_RETURN(options.vocabulary,
                      ByteLevelVocabulary(parts, what, &options.literals));
  options.vocabulary.strips_leading_space = options.add_prefix_space;
  options.merges = std::move(parts.merges);
  return std::make_unique<ByteLevelTokenizer>(std::move(options));
}

// Llama-2's converted form: normalizer Prepend + Replace, no pre_tokenizer; or
// no normalizer and an unsplitting Metaspace.
absl::StatusOr<CharacterOptions::Prefix> ParseSpaceHandling(
    const Parts& parts, const std::string& what) {
  const json prepend_replace = {
      {"type", "Sequence"},
      {"normalizers",
       {{{"type", "Prepend"}, {"prepend", kSpaceMark}},
        {{"type", "Replace"},
         {"pattern", {{"String", " "}}},
         {"content", kSpaceMark}}}}};
  if (parts.normalizer != nullptr) {
    if (*parts.normalizer != prepend_replace) {
      return NotSupported(what, "normalizer", *parts.normalizer);
    }
    if (parts.pre_tokenizer != nullptr) {
      return NotSupported(what, "pre_tokenizer", *parts.pre_tokenizer);
    }
    return CharacterOptions::Prefix::kAlways;
  }
  if (PartType(parts.pre_tokenizer) != "Metaspace") {
    return absl::InvalidArgumentError(fmt::format(
        "{}: pre_tokenizer {} without a normalizer is not supported with "
        "byte_fallback",
        what, PartType(parts.pre_tokenizer)));
  }
  const json& metaspace = *parts.pre_tokenizer;
  SL_ASSIGN_OR_RETURN(const auto mark,
                      GetString(metaspace, "replacement", what));
  SL_ASSIGN_OR_RETURN(const auto scheme,
                      GetString(metaspace, "prepend_scheme", what));
  SL_ASSIGN_OR_RETURN(const auto split, GetBool(metaspace, "split", what));
  if (mark.value_or("") != kSpaceMark || split.value_or(true) ||
      (scheme != "first" && scheme != "always" && scheme != "never")) {
    return NotSupported(what, "pre_tokenizer", metaspace);
  }
  return scheme == "never" ? CharacterOptions::Prefix::kNever
                           : CharacterOptions::Prefix::kIfMissing;
}

absl::StatusOr<std::unique_ptr<VocabTokenizer>> MakeCharacter(
    Parts parts, const std::string& what) {
  CharacterOptions options;
  SL_ASSIGN_OR_RETURN(options.prefix, ParseSpaceHandling(parts, what));
  options.merges = std::move(parts.merges);
  VocabularyBuilder builder(what);
  for (const AddedToken& token : parts.added_tokens) {
    if (!token.special) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: added_tokens: token '{}' that is not special is not supported "
          "with byte_fallback",
          what, token.content));
    }
    SL_RETURN_IF_ERROR(builder.AddSpecial(token.id, token.content));
    parts.vocab.erase(token.content);
  }
  for (const auto& [text, id] : parts.vocab) {
    SL_RETURN_IF_ERROR(
        AddCharacterToken(text, id, /*escaped=*/true, &options, &builder));
  }
  SL_RETURN_IF_ERROR(CheckByteTokens(options, what));
  SL_ASSIGN_OR_RETURN(options.vocabulary, builder.Build());
  options.vocabulary.strips_leading_space =
      options.prefix != CharacterOptions::Prefix::kNever;
  return std::make_unique<CharacterTokenizer>(std::move(options));
}

}  // namespace

absl::StatusOr<std::unique_ptr<VocabTokenizer>> ParseTokenizerJson(
    std::string_view text, const std::string& what) {
  SL_ASSIGN_OR_RETURN(const json root, ParseJsonObject(text, what));
  SL_ASSIGN_OR_RETURN(Parts parts, ParseParts(root, what));
  SL_ASSIGN_OR_RETURN(const auto byte_fallback,
                      GetBool(*parts.model, "byte_fallback", what));
  return byte_fallback.value_or(false) ? MakeCharacter(std::move(parts), what)
                                       : MakeByteLevel(std::move(parts), what);
}

}  // namespace sinklora
