// SPDX-License-Identifier: Apache-2.0
#include "services/curator/metadata_json.h"

#include <fmt/format.h>

namespace sinklora::curator {
namespace {

using nlohmann::json;

// The inverse of FormatName and BuilderName.
SourceFormat FormatFromName(const std::string& name) {
  if (name == FormatName(SourceFormat::kPlainText)) {
    return SourceFormat::kPlainText;
  }
  if (name == FormatName(SourceFormat::kInstruction)) {
    return SourceFormat::kInstruction;
  }
  return SourceFormat::kUnspecified;
}

Builder BuilderFromName(const std::string& name) {
  if (name == BuilderName(Builder::kPackedText)) return Builder::kPackedText;
  if (name == BuilderName(Builder::kInstruction)) return Builder::kInstruction;
  return Builder::kUnspecified;
}

json FilesToJson(const std::vector<StoredFile>& files) {
  json list = json::array();
  for (const StoredFile& file : files) {
    list.push_back({{"path", file.path},
                    {"size_bytes", file.size_bytes},
                    {"sha256", file.sha256}});
  }
  return list;
}

template <typename T>
json OptionalToJson(const std::optional<T>& value) {
  return value.has_value() ? json(*value) : json(nullptr);
}

template <typename T>
std::optional<T> OptionalFromJson(const json& value) {
  if (value.is_null()) return std::nullopt;
  return value.get<T>();
}

Recipe RecipeFromJson(const json& value) {
  Recipe recipe;
  recipe.sources = value.at("sources").get<std::vector<std::string>>();
  recipe.builder = BuilderFromName(value.at("builder").get<std::string>());
  recipe.tokenizer_model = value.at("tokenizer_model").get<std::string>();
  recipe.context_tokens = value.at("context_tokens").get<int64_t>();
  recipe.validation_fraction =
      OptionalFromJson<double>(value.at("validation_fraction"));
  recipe.seed = value.at("seed").get<uint64_t>();
  recipe.chat_template = value.at("chat_template").get<std::string>();
  recipe.min_document_bytes = value.at("min_document_bytes").get<int64_t>();
  recipe.system_prompt = value.at("system_prompt").get<std::string>();
  return recipe;
}

Counts CountsFromJson(const json& value) {
  Counts counts;
  counts.input_records = value.at("input_records").get<int64_t>();
  counts.kept_records = value.at("kept_records").get<int64_t>();
  counts.rejected_records =
      value.at("rejected_records").get<std::map<std::string, int64_t>>();
  counts.train_examples = value.at("train_examples").get<int64_t>();
  counts.validation_examples = value.at("validation_examples").get<int64_t>();
  counts.train_tokens = value.at("train_tokens").get<int64_t>();
  counts.validation_tokens = value.at("validation_tokens").get<int64_t>();
  counts.train_supervised_tokens =
      value.at("train_supervised_tokens").get<int64_t>();
  counts.train_text_bytes = value.at("train_text_bytes").get<int64_t>();
  counts.truncated_records = value.at("truncated_records").get<int64_t>();
  counts.dropped_tokens = value.at("dropped_tokens").get<int64_t>();
  return counts;
}

SourceInfo SourceFromJson(const json& value) {
  SourceInfo source;
  source.name = value.at("name").get<std::string>();
  source.digest = value.at("digest").get<std::string>();
  source.format = FormatFromName(value.at("format").get<std::string>());
  source.record_count = value.at("record_count").get<int64_t>();
  source.text_bytes = value.at("text_bytes").get<int64_t>();
  source.create_time_micros = value.at("create_time_micros").get<int64_t>();
  for (const json& file : value.at("files")) {
    source.files.push_back({file.at("path").get<std::string>(),
                            file.at("size_bytes").get<int64_t>(),
                            file.at("sha256").get<std::string>()});
  }
  return source;
}

DatasetInfo DatasetFromJson(const json& value) {
  DatasetInfo dataset;
  dataset.name = value.at("name").get<std::string>();
  dataset.digest = value.at("digest").get<std::string>();
  dataset.recipe = RecipeFromJson(value.at("recipe"));
  dataset.source_digests =
      value.at("source_digests").get<std::vector<std::string>>();
  dataset.tokenizer_digest = value.at("tokenizer_digest").get<std::string>();
  dataset.begin_token_id =
      OptionalFromJson<int32_t>(value.at("begin_token_id"));
  dataset.end_token_id = OptionalFromJson<int32_t>(value.at("end_token_id"));
  dataset.tokenizer_files_digest =
      value.at("tokenizer_files_digest").get<std::string>();
  dataset.counts = CountsFromJson(value.at("counts"));
  dataset.create_time_micros = value.at("create_time_micros").get<int64_t>();
  return dataset;
}

// Runs `convert` on the parsed text; nlohmann's exceptions end here.
template <typename T>
absl::StatusOr<T> ParseWith(std::string_view text, const char* what,
                            T (*convert)(const json&)) {
  try {
    return convert(json::parse(text));
  } catch (const json::exception& e) {
    return absl::DataLossError(
        fmt::format("stored {} is damaged: {}", what, e.what()));
  }
}

}  // namespace

const char* FormatName(SourceFormat format) {
  switch (format) {
    case SourceFormat::kPlainText:
      return "plain_text";
    case SourceFormat::kInstruction:
      return "instruction";
    case SourceFormat::kUnspecified:
      break;
  }
  return "unspecified";
}

const char* BuilderName(Builder builder) {
  switch (builder) {
    case Builder::kPackedText:
      return "packed_text";
    case Builder::kInstruction:
      return "instruction";
    case Builder::kUnspecified:
      break;
  }
  return "unspecified";
}

json RecipeToJson(const Recipe& recipe) {
  return {{"sources", recipe.sources},
          {"builder", BuilderName(recipe.builder)},
          {"tokenizer_model", recipe.tokenizer_model},
          {"context_tokens", recipe.context_tokens},
          {"validation_fraction", OptionalToJson(recipe.validation_fraction)},
          {"seed", recipe.seed},
          {"chat_template", recipe.chat_template},
          {"min_document_bytes", recipe.min_document_bytes},
          {"system_prompt", recipe.system_prompt}};
}

json CountsToJson(const Counts& counts) {
  return {{"input_records", counts.input_records},
          {"kept_records", counts.kept_records},
          {"rejected_records", counts.rejected_records},
          {"train_examples", counts.train_examples},
          {"validation_examples", counts.validation_examples},
          {"train_tokens", counts.train_tokens},
          {"validation_tokens", counts.validation_tokens},
          {"train_supervised_tokens", counts.train_supervised_tokens},
          {"train_text_bytes", counts.train_text_bytes},
          {"truncated_records", counts.truncated_records},
          {"dropped_tokens", counts.dropped_tokens}};
}

std::string SerializeSource(const SourceInfo& source) {
  const json value = {{"name", source.name},
                      {"digest", source.digest},
                      {"format", FormatName(source.format)},
                      {"record_count", source.record_count},
                      {"text_bytes", source.text_bytes},
                      {"files", FilesToJson(source.files)},
                      {"create_time_micros", source.create_time_micros}};
  return value.dump();
}

absl::StatusOr<SourceInfo> ParseSource(std::string_view text) {
  return ParseWith<SourceInfo>(text, "source metadata", SourceFromJson);
}

std::string SerializeDataset(const DatasetInfo& dataset) {
  const json value = {
      {"name", dataset.name},
      {"digest", dataset.digest},
      {"recipe", RecipeToJson(dataset.recipe)},
      {"source_digests", dataset.source_digests},
      {"tokenizer_digest", dataset.tokenizer_digest},
      {"begin_token_id", OptionalToJson(dataset.begin_token_id)},
      {"end_token_id", OptionalToJson(dataset.end_token_id)},
      {"tokenizer_files_digest", dataset.tokenizer_files_digest},
      {"counts", CountsToJson(dataset.counts)},
      {"create_time_micros", dataset.create_time_micros}};
  return value.dump();
}

absl::StatusOr<DatasetInfo> ParseDataset(std::string_view text) {
  return ParseWith<DatasetInfo>(text, "dataset metadata", DatasetFromJson);
}

}  // namespace sinklora::curator
