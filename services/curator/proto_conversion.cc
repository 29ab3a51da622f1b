// SPDX-License-Identifier: Apache-2.0
#include "services/curator/proto_conversion.h"

#include <fmt/format.h>
#include <google/protobuf/util/time_util.h>

#include <string>

#include "common/base/status.h"

namespace sinklora::curator {
namespace {

using google::protobuf::util::TimeUtil;

absl::Status UnknownEnum(const std::string& field, int value) {
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      fmt::format("{} is {}, which is none of its values", field, value),
      {"UNKNOWN_ENUM_VALUE",
       {{"field", field}, {"value", std::to_string(value)}}});
}

absl::StatusOr<Builder> FromProto(v1::Builder builder) {
  switch (builder) {
    case v1::BUILDER_UNSPECIFIED:
      return Builder::kUnspecified;
    case v1::BUILDER_PACKED_TEXT:
      return Builder::kPackedText;
    case v1::BUILDER_INSTRUCTION:
      return Builder::kInstruction;
    default:
      return UnknownEnum("recipe.builder", builder);
  }
}

v1::Builder ToProto(Builder builder) {
  switch (builder) {
    case Builder::kPackedText:
      return v1::BUILDER_PACKED_TEXT;
    case Builder::kInstruction:
      return v1::BUILDER_INSTRUCTION;
    case Builder::kUnspecified:
      break;
  }
  return v1::BUILDER_UNSPECIFIED;
}

v1::SourceFormat ToProto(SourceFormat format) {
  switch (format) {
    case SourceFormat::kPlainText:
      return v1::SOURCE_FORMAT_PLAIN_TEXT;
    case SourceFormat::kInstruction:
      return v1::SOURCE_FORMAT_INSTRUCTION;
    case SourceFormat::kUnspecified:
      break;
  }
  return v1::SOURCE_FORMAT_UNSPECIFIED;
}

v1::Recipe ToProto(const Recipe& recipe) {
  v1::Recipe proto;
  proto.mutable_sources()->Assign(recipe.sources.begin(), recipe.sources.end());
  proto.set_builder(ToProto(recipe.builder));
  proto.set_tokenizer_model(recipe.tokenizer_model);
  proto.set_context_tokens(recipe.context_tokens);
  if (recipe.validation_fraction.has_value()) {
    proto.set_validation_fraction(*recipe.validation_fraction);
  }
  proto.set_seed(recipe.seed);
  proto.set_chat_template(recipe.chat_template);
  proto.set_min_document_bytes(recipe.min_document_bytes);
  proto.set_system_prompt(recipe.system_prompt);
  return proto;
}

v1::Counts ToProto(const Counts& counts) {
  v1::Counts proto;
  proto.set_input_records(counts.input_records);
  proto.set_kept_records(counts.kept_records);
  for (const auto& [reason, records] : counts.rejected_records) {
    if (records > 0) (*proto.mutable_rejected_records())[reason] = records;
  }
  proto.set_train_examples(counts.train_examples);
  proto.set_validation_examples(counts.validation_examples);
  proto.set_train_tokens(counts.train_tokens);
  proto.set_validation_tokens(counts.validation_tokens);
  proto.set_train_supervised_tokens(counts.train_supervised_tokens);
  proto.set_train_text_bytes(counts.train_text_bytes);
  return proto;
}

}  // namespace

absl::StatusOr<SourceFormat> FromProto(v1::SourceFormat format) {
  switch (format) {
    case v1::SOURCE_FORMAT_UNSPECIFIED:
      return SourceFormat::kUnspecified;
    case v1::SOURCE_FORMAT_PLAIN_TEXT:
      return SourceFormat::kPlainText;
    case v1::SOURCE_FORMAT_INSTRUCTION:
      return SourceFormat::kInstruction;
    default:
      return UnknownEnum("format", format);
  }
}

absl::StatusOr<Split> FromProto(v1::Split split) {
  switch (split) {
    case v1::SPLIT_UNSPECIFIED:
    case v1::SPLIT_TRAIN:
      return Split::kTrain;
    case v1::SPLIT_VALIDATION:
      return Split::kValidation;
    default:
      return UnknownEnum("split", split);
  }
}

absl::StatusOr<Recipe> FromProto(const v1::Recipe& proto) {
  Recipe recipe;
  recipe.sources.assign(proto.sources().begin(), proto.sources().end());
  SL_ASSIGN_OR_RETURN(recipe.builder, FromProto(proto.builder()));
  recipe.tokenizer_model = proto.tokenizer_model();
  recipe.context_tokens = proto.context_tokens();
  if (proto.has_validation_fraction()) {
    recipe.validation_fraction = proto.validation_fraction();
  }
  recipe.seed = proto.seed();
  recipe.chat_template = proto.chat_template();
  recipe.min_document_bytes = proto.min_document_bytes();
  recipe.system_prompt = proto.system_prompt();
  return recipe;
}

v1::Source ToProto(const SourceInfo& source) {
  v1::Source proto;
  proto.set_name(source.name);
  proto.set_digest(source.digest);
  proto.set_format(ToProto(source.format));
  proto.set_record_count(source.record_count);
  proto.set_text_bytes(source.text_bytes);
  for (const StoredFile& file : source.files) {
    auto* info = proto.add_files();
    info->set_path(file.path);
    info->set_size_bytes(file.size_bytes);
    info->set_sha256(file.sha256);
  }
  *proto.mutable_create_time() =
      TimeUtil::MicrosecondsToTimestamp(source.create_time_micros);
  return proto;
}

v1::Dataset ToProto(const DatasetInfo& dataset) {
  v1::Dataset proto;
  proto.set_name(dataset.name);
  proto.set_digest(dataset.digest);
  *proto.mutable_recipe() = ToProto(dataset.recipe);
  proto.mutable_source_digests()->Assign(dataset.source_digests.begin(),
                                         dataset.source_digests.end());
  proto.set_tokenizer_digest(dataset.tokenizer_digest);
  *proto.mutable_counts() = ToProto(dataset.counts);
  *proto.mutable_create_time() =
      TimeUtil::MicrosecondsToTimestamp(dataset.create_time_micros);
  return proto;
}

v1::Example ToProto(const TrainingExample& example) {
  v1::Example proto;
  proto.mutable_token_ids()->Assign(example.token_ids.begin(),
                                    example.token_ids.end());
  proto.set_supervised(example.supervised.data(), example.supervised.size());
  proto.mutable_document_tokens()->Assign(example.document_tokens.begin(),
                                          example.document_tokens.end());
  return proto;
}

}  // namespace sinklora::curator
