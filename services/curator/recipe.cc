// SPDX-License-Identifier: Apache-2.0
#include "services/curator/recipe.h"

#include <fmt/format.h>

#include <set>
#include <string>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/text/chat_template.h"
#include "services/curator/metadata_json.h"

namespace sinklora::curator {
namespace {

absl::Status FieldError(const std::string& field, const std::string& value,
                        const std::string& limit) {
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      fmt::format("recipe.{} is {}, must be {}", field, value, limit),
      {"INVALID_RECIPE",
       {{"field", "recipe." + field}, {"value", value}, {"limit", limit}}});
}

absl::Status ValidateSources(const std::vector<std::string>& sources) {
  if (sources.empty() ||
      static_cast<int64_t>(sources.size()) > kMaxRecipeSources) {
    return FieldError("sources", fmt::format("a list of {}", sources.size()),
                      fmt::format("a list of 1 to {}", kMaxRecipeSources));
  }
  std::set<std::string> seen;
  for (const std::string& source : sources) {
    SL_RETURN_IF_ERROR(ValidateId("recipe.sources", source));
    if (!seen.insert(source).second) {
      return FieldError("sources", fmt::format("naming \"{}\" twice", source),
                        "a list of different names");
    }
  }
  return absl::OkStatus();
}

Builder BuilderOfFormat(SourceFormat format) {
  return format == SourceFormat::kPlainText ? Builder::kPackedText
                                            : Builder::kInstruction;
}

}  // namespace

absl::Status ValidateRecipe(const Recipe& recipe) {
  SL_RETURN_IF_ERROR(ValidateSources(recipe.sources));
  SL_RETURN_IF_ERROR(
      ValidateId("recipe.tokenizer_model", recipe.tokenizer_model));
  if (recipe.context_tokens < kMinExampleTokens ||
      recipe.context_tokens > kMaxContextTokens) {
    return FieldError(
        "context_tokens", std::to_string(recipe.context_tokens),
        fmt::format("in [{}, {}]", kMinExampleTokens, kMaxContextTokens));
  }
  const double fraction =
      recipe.validation_fraction.value_or(kDefaultValidationFraction);
  // Written so that NaN fails.
  if (!(fraction >= 0 && fraction <= kMaxValidationFraction)) {
    return FieldError("validation_fraction", fmt::format("{}", fraction),
                      fmt::format("in [0, {}]", kMaxValidationFraction));
  }
  if (recipe.min_document_bytes < 0) {
    return FieldError("min_document_bytes",
                      std::to_string(recipe.min_document_bytes),
                      "0 or greater");
  }
  return Annotate(ParseChatTemplate(recipe.chat_template).status(),
                  "recipe.chat_template");
}

absl::StatusOr<Recipe> ResolveRecipe(const Recipe& recipe,
                                     const std::vector<SourceInfo>& sources) {
  Recipe resolved = recipe;
  const SourceInfo& first = sources.front();
  if (resolved.builder == Builder::kUnspecified) {
    resolved.builder = BuilderOfFormat(first.format);
  }
  for (const SourceInfo& source : sources) {
    if (BuilderOfFormat(source.format) == resolved.builder) continue;
    return FieldError(
        "builder",
        fmt::format("{}, but source \"{}\" holds {} (source \"{}\": {})",
                    BuilderName(resolved.builder), source.name,
                    FormatName(source.format), first.name,
                    FormatName(first.format)),
        "the builder of the format that all sources have");
  }
  if (!resolved.validation_fraction.has_value()) {
    resolved.validation_fraction = kDefaultValidationFraction;
  }
  if (resolved.builder == Builder::kPackedText) {
    resolved.chat_template.clear();
    resolved.system_prompt.clear();
    return resolved;
  }
  SL_ASSIGN_OR_RETURN(const ChatTemplate chat_template,
                      ParseChatTemplate(recipe.chat_template));
  resolved.chat_template = std::string(ChatTemplateName(chat_template));
  return resolved;
}

}  // namespace sinklora::curator
