// SPDX-License-Identifier: Apache-2.0
#include "common/text/tokenizer_json_pipeline.h"

#include <utility>

#include "common/base/status.h"
#include "common/text/json.h"
#include "common/text/split_regex.h"
#include "common/text/tokenizer_json_parts.h"
#include "common/text/utf8.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

// The steps of a part: of a "Sequence" those in its list `key`, else itself.
absl::StatusOr<std::vector<const json*>> Steps(const json* part,
                                               const char* key,
                                               const std::string& what) {
  std::vector<const json*> steps;
  if (part == nullptr) return steps;
  if (PartType(part) != "Sequence") {
    steps.push_back(part);
    return steps;
  }
  const json* list = FindField(*part, key);
  if (list == nullptr || !list->is_array()) {
    return NotSupported(what, "Sequence", *part);
  }
  for (const json& step : *list) steps.push_back(&step);
  return steps;
}

// A pattern {"String": "..."} or {"Regex": "..."}; nullopt for the other kind.
absl::StatusOr<std::optional<std::string>> Pattern(const json& step,
                                                   const char* kind,
                                                   const std::string& what) {
  const json* pattern = FindField(step, "pattern");
  if (pattern == nullptr || !pattern->is_object()) {
    return NotSupported(what, "pattern of", step);
  }
  return GetString(*pattern, kind, what);
}

absl::Status AddNormalizer(const json& step, const std::string& what,
                           TokenizerPipeline* pipeline) {
  const std::string type = PartType(&step);
  if (type == "NFC") {
    pipeline->normalizer.AddNfc();
    return absl::OkStatus();
  }
  if (type == "Prepend") {
    SL_ASSIGN_OR_RETURN(const auto prefix, GetString(step, "prepend", what));
    if (!prefix) return NotSupported(what, "normalizer", step);
    pipeline->normalizer.AddPrepend(*prefix);
    pipeline->normalizer_prepends_space |= *prefix == kSpaceMark;
    return absl::OkStatus();
  }
  if (type == "Replace") {
    SL_ASSIGN_OR_RETURN(const auto from, Pattern(step, "String", what));
    SL_ASSIGN_OR_RETURN(const auto to, GetString(step, "content", what));
    if (from && !from->empty() && to) {
      pipeline->normalizer.AddReplace(*from, *to);
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(fmt::format(
      "{}: normalizer {} is not supported, only NFC, Prepend, Replace of a "
      "String, and Sequence of these are",
      what, JsonExcerpt(step)));
}

// The text as a regular expression that matches it alone.
std::string Quote(std::string_view text) {
  std::string out;
  for (char c : text) {
    const bool plain = (c & 0x80) != 0 || (c >= '0' && c <= '9') ||
                       (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!plain) out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

absl::Status AddSplit(const json& step, const std::string& what,
                      TokenizerPipeline* pipeline) {
  SL_ASSIGN_OR_RETURN(const auto behavior, GetString(step, "behavior", what));
  SL_ASSIGN_OR_RETURN(const auto invert, GetBool(step, "invert", what));
  if (behavior.value_or("") != "Isolated" || invert.value_or(false)) {
    return absl::InvalidArgumentError(
        fmt::format("{}: pre_tokenizer {} is not supported, Split must be "
                    "Isolated and not inverted",
                    what, JsonExcerpt(step)));
  }
  SL_ASSIGN_OR_RETURN(const auto regex, Pattern(step, "Regex", what));
  SL_ASSIGN_OR_RETURN(const auto text, Pattern(step, "String", what));
  if (!regex && text.value_or("").empty()) {
    return NotSupported(what, "pre_tokenizer", step);
  }
  pipeline->split_patterns.push_back(regex ? *regex : Quote(*text));
  return absl::OkStatus();
}

absl::Status AddByteLevel(const json& step, const std::string& what,
                          TokenizerPipeline* pipeline) {
  SL_ASSIGN_OR_RETURN(const auto prefix,
                      GetBool(step, "add_prefix_space", what));
  SL_ASSIGN_OR_RETURN(const auto use_regex, GetBool(step, "use_regex", what));
  pipeline->byte_level = true;
  pipeline->add_prefix_space = prefix.value_or(true);
  if (pipeline->add_prefix_space && !pipeline->split_patterns.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: pre_tokenizer: ByteLevel.add_prefix_space = true behind other "
        "splits is not supported",
        what));
  }
  if (use_regex.value_or(true)) {
    pipeline->split_patterns.emplace_back(kGpt2Regex);
  }
  return absl::OkStatus();
}

absl::Status AddMetaspace(const json& step, const std::string& what,
                          TokenizerPipeline* pipeline) {
  SL_ASSIGN_OR_RETURN(const auto mark, GetString(step, "replacement", what));
  SL_ASSIGN_OR_RETURN(const auto split, GetBool(step, "split", what));
  SL_ASSIGN_OR_RETURN(const auto scheme,
                      GetString(step, "prepend_scheme", what));
  // Files of early versions have this instead.
  SL_ASSIGN_OR_RETURN(const auto prefix,
                      GetBool(step, "add_prefix_space", what));
  const std::string named =
      scheme.value_or(prefix.value_or(true) ? "always" : "never");
  Metaspace metaspace;
  metaspace.split = split.value_or(true);
  if (named == "never") {
    metaspace.prepend = Metaspace::Prepend::kNever;
  } else if (named == "first") {
    metaspace.prepend = Metaspace::Prepend::kFirst;
  } else if (named != "always") {
    return NotSupported(what, "pre_tokenizer", step);
  }
  const bool contradicts = scheme && prefix && *prefix == (named == "never");
  if (mark.value_or("") != kSpaceMark || contradicts) {
    return NotSupported(what, "pre_tokenizer", step);
  }
  pipeline->metaspace = metaspace;
  return absl::OkStatus();
}

absl::Status ParsePreTokenizer(const json* part, const std::string& what,
                               TokenizerPipeline* pipeline) {
  SL_ASSIGN_OR_RETURN(const auto steps, Steps(part, "pretokenizers", what));
  for (const json* step : steps) {
    const std::string type = PartType(step);
    if (pipeline->byte_level || pipeline->metaspace) {
      return NotSupported(what, "pre_tokenizer step behind the last one",
                          *step);
    }
    if (type == "Split") {
      SL_RETURN_IF_ERROR(AddSplit(*step, what, pipeline));
    } else if (type == "Digits") {
      SL_ASSIGN_OR_RETURN(const auto individual,
                          GetBool(*step, "individual_digits", what));
      pipeline->split_patterns.emplace_back(
          individual.value_or(false) ? "\\p{N}" : "\\p{N}+");
    } else if (type == "ByteLevel") {
      SL_RETURN_IF_ERROR(AddByteLevel(*step, what, pipeline));
    } else if (type == "Metaspace" && pipeline->split_patterns.empty()) {
      SL_RETURN_IF_ERROR(AddMetaspace(*step, what, pipeline));
    } else {
      return absl::InvalidArgumentError(fmt::format(
          "{}: pre_tokenizer {} is not supported, only Metaspace, ByteLevel, "
          "and Sequence of Split, Digits and ByteLevel are",
          what, JsonExcerpt(*step)));
    }
  }
  if (!pipeline->byte_level && !pipeline->split_patterns.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: pre_tokenizer splits text but has no ByteLevel behind it", what));
  }
  return absl::OkStatus();
}

// Strip of a number of spaces at the start alone.
absl::StatusOr<bool> StripsOneSpace(const json& step, const std::string& what) {
  SL_ASSIGN_OR_RETURN(const auto content, GetString(step, "content", what));
  SL_ASSIGN_OR_RETURN(const auto start, GetInt(step, "start", 0, 1, what));
  SL_ASSIGN_OR_RETURN(const auto stop, GetInt(step, "stop", 0, 0, what));
  if (content.value_or("") != " " || !start || !stop) {
    return NotSupported(what, "decoder", step);
  }
  return *start == 1;
}

absl::Status ParseCharacterDecoder(const json* part, const std::string& what,
                                   TokenizerPipeline* pipeline) {
  SL_ASSIGN_OR_RETURN(const auto steps, Steps(part, "decoders", what));
  bool unmarks_spaces = false;
  bool fused = false;
  for (const json* step : steps) {
    const std::string type = PartType(step);
    if (type == "Metaspace" && !fused && !unmarks_spaces) {
      TokenizerPipeline decoder;
      SL_RETURN_IF_ERROR(AddMetaspace(*step, what, &decoder));
      unmarks_spaces = true;
      if (decoder.metaspace->prepend != Metaspace::Prepend::kNever) {
        pipeline->leading_space = LeadingSpace::kFirstTokenStripped;
      }
    } else if (type == "Replace" && !fused) {
      SL_ASSIGN_OR_RETURN(const auto from, Pattern(*step, "String", what));
      SL_ASSIGN_OR_RETURN(const auto to, GetString(*step, "content", what));
      if (from != kSpaceMark || to != " ") {
        return NotSupported(what, "decoder", *step);
      }
      unmarks_spaces = true;
    } else if (type == "ByteFallback" && !fused) {
      pipeline->decodes_bytes = true;
    } else if (type == "Fuse") {
      fused = true;
    } else if (type == "Strip" && fused) {
      SL_ASSIGN_OR_RETURN(const bool strips, StripsOneSpace(*step, what));
      if (strips) pipeline->leading_space = LeadingSpace::kOneStripped;
    } else {
      return NotSupported(what, "decoder", *step);
    }
  }
  if (!unmarks_spaces) {
    return absl::InvalidArgumentError(
        fmt::format("{}: decoder {} is not supported, must be Metaspace or a "
                    "Sequence that replaces U+2581 with a space",
                    what, part == nullptr ? "null" : JsonExcerpt(*part)));
  }
  return absl::OkStatus();
}

absl::Status ParseDecoder(const json* part, const std::string& what,
                          TokenizerPipeline* pipeline) {
  if (!pipeline->byte_level) {
    return ParseCharacterDecoder(part, what, pipeline);
  }
  if (PartType(part) != "ByteLevel") {
    return absl::InvalidArgumentError(
        fmt::format("{}: decoder {} is not supported, must be ByteLevel", what,
                    PartType(part)));
  }
  if (pipeline->add_prefix_space) {
    pipeline->leading_space = LeadingSpace::kOneStripped;
  }
  return absl::OkStatus();
}

std::optional<std::string> SpecialTokenOf(const json& entry) {
  const json* special =
      entry.is_object() ? FindField(entry, "SpecialToken") : nullptr;
  const json* id = special != nullptr && special->is_object()
                       ? FindField(*special, "id")
                       : nullptr;
  if (id == nullptr || !id->is_string()) return std::nullopt;
  return id->get<std::string>();
}

absl::Status ParsePostProcessor(const json* part, const std::string& what,
                                TokenizerPipeline* pipeline) {
  SL_ASSIGN_OR_RETURN(const auto steps, Steps(part, "processors", what));
  for (const json* step : steps) {
    if (PartType(step) != "TemplateProcessing") continue;
    const json* single = FindField(*step, "single");
    if (single == nullptr || !single->is_array() || single->empty()) {
      return NotSupported(what, "post_processor", *step);
    }
    pipeline->begin_token = SpecialTokenOf(single->front());
    pipeline->end_token = SpecialTokenOf(single->back());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerPipeline> ParseTokenizerPipeline(
    const json& root, const std::string& what) {
  TokenizerPipeline pipeline;
  SL_ASSIGN_OR_RETURN(
      const auto normalizers,
      Steps(FindField(root, "normalizer"), "normalizers", what));
  for (const json* step : normalizers) {
    SL_RETURN_IF_ERROR(AddNormalizer(*step, what, &pipeline));
  }
  SL_RETURN_IF_ERROR(
      ParsePreTokenizer(FindField(root, "pre_tokenizer"), what, &pipeline));
  SL_RETURN_IF_ERROR(ParseDecoder(FindField(root, "decoder"), what, &pipeline));
  SL_RETURN_IF_ERROR(
      ParsePostProcessor(FindField(root, "post_processor"), what, &pipeline));
  return pipeline;
}

}  // namespace sinklora
