// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/export_maker.h"

#include <fmt/format.h>

#include <memory>

#include "common/base/disk_budget.h"
#include "common/base/status.h"
#include "common/gguf/gguf.h"
#include "common/model/merge_check.h"
#include "common/weights/llama_config.h"
#include "common/weights/peft_adapter.h"

namespace sinklora::trainer {
namespace {

using registry::v1::ExportRequest;
using registry::v1::GgufType;

// The two directories of a split adapter.
constexpr char kSplitAdapterDir[] = "adapter";
constexpr char kSplitBaseDir[] = "base";

absl::StatusOr<GgufFileType> FileTypeOf(GgufType type) {
  switch (type) {
    case registry::v1::GGUF_TYPE_F32:
      return GgufFileType::kF32;
    case registry::v1::GGUF_TYPE_F16:
      return GgufFileType::kF16;
    case registry::v1::GGUF_TYPE_UNSPECIFIED:
    case registry::v1::GGUF_TYPE_BF16:
      return GgufFileType::kBf16;
    case registry::v1::GGUF_TYPE_Q8_0:
      return GgufFileType::kQ80;
    default:
      return absl::InvalidArgumentError(
          fmt::format("gguf_type is {}, allowed are F32, F16, BF16 and Q8_0",
                      static_cast<int>(type)));
  }
}

registry::v1::MergeCheck ToProto(const MergeCheck& check) {
  registry::v1::MergeCheck proto;
  proto.set_probe_tokens(check.probe_tokens);
  proto.set_max_abs_logit_difference(check.max_abs_logit_difference);
  proto.set_max_relative_logit_difference(check.max_relative_logit_difference);
  proto.set_relative_logit_bound(check.relative_logit_bound);
  proto.set_max_relative_layer_difference(check.max_relative_layer_difference);
  proto.set_relative_layer_bound(check.relative_layer_bound);
  return proto;
}

// Of tokenizer, configuration and the like: what every form carries over.
int64_t OtherBytes(const registry::v1::Model& model) {
  int64_t bytes = 0;
  for (const auto& file : model.files()) {
    if (!file.path().ends_with(".safetensors")) bytes += file.size_bytes();
  }
  return bytes;
}

int64_t BytesPerParameter(GgufFileType type) {
  switch (type) {
    case GgufFileType::kF32:
      return 4;
    case GgufFileType::kF16:
    case GgufFileType::kBf16:
    case GgufFileType::kQ80:  // a little over one
      return 2;
  }
  return 4;
}

constexpr int64_t kMergedBytesPerParameter = 2;  // bf16

// Room for `model` in another form.
absl::StatusOr<std::unique_ptr<DiskBudget::Reservation>> ReserveRoom(
    const ArtifactStore& artifacts, const registry::v1::Model& model,
    int64_t bytes_per_parameter) {
  return artifacts.disk()->Reserve(bytes_per_parameter *
                                       model.architecture().parameter_count() +
                                   OtherBytes(model));
}

absl::StatusOr<PeftAdapter> ReadAdapter(const ArtifactStore& artifacts,
                                        const ExportSource& source) {
  SL_ASSIGN_OR_RETURN(
      const std::string config_json,
      ReadFile(
          JoinPath(artifacts.ModelDir(source.model.digest()), "config.json")));
  SL_ASSIGN_OR_RETURN(const LlamaConfig config, ParseLlamaConfig(config_json));
  return ReadPeftAdapter(artifacts.AdapterDir(source.adapter->digest()),
                         config);
}

}  // namespace

absl::Status CheckExportRequest(const ExportRequest& request) {
  if (request.source_case() == ExportRequest::SOURCE_NOT_SET) {
    return absl::InvalidArgumentError(
        "neither model nor adapter is set, one is required");
  }
  switch (request.format()) {
    case registry::v1::EXPORT_FORMAT_GGUF:
      return FileTypeOf(request.gguf_type()).status();
    case registry::v1::EXPORT_FORMAT_SPLIT:
    case registry::v1::EXPORT_FORMAT_MERGED:
      break;
    default:
      return absl::InvalidArgumentError(
          fmt::format("format is {}, allowed are SPLIT, MERGED and GGUF",
                      static_cast<int>(request.format())));
  }
  if (request.has_model()) {
    return absl::InvalidArgumentError(
        fmt::format("model {}: only adapters can be split or merged; download "
                    "the model's files, or export it as GGUF",
                    request.model()));
  }
  if (request.gguf_type() != registry::v1::GGUF_TYPE_UNSPECIFIED) {
    return absl::InvalidArgumentError(
        "gguf_type is set, allowed with format GGUF only");
  }
  return absl::OkStatus();
}

absl::StatusOr<registry::v1::MergeCheck> ExportMaker::Merge(
    const ExportSource& source, const std::string& out) const {
  SL_ASSIGN_OR_RETURN(const auto room, ReserveRoom(*artifacts_, source.model,
                                                   kMergedBytesPerParameter));
  SL_ASSIGN_OR_RETURN(const PeftAdapter adapter,
                      ReadAdapter(*artifacts_, source));
  SL_ASSIGN_OR_RETURN(
      const MergeCheck check,
      MergeAndCheck(backend_, artifacts_->ModelDir(source.model.digest()),
                    adapter, out));
  return ToProto(check);
}

absl::StatusOr<registry::v1::MergeCheck> ExportMaker::Split(
    const ExportSource& source, const std::string& out) const {
  SL_ASSIGN_OR_RETURN(const auto room, ReserveRoom(*artifacts_, source.model,
                                                   kMergedBytesPerParameter));
  SL_ASSIGN_OR_RETURN(PeftAdapter adapter, ReadAdapter(*artifacts_, source));
  // Where it lies beside the adapter; its name here would say nothing there.
  adapter.base_model = kSplitBaseDir;
  SL_RETURN_IF_ERROR(MakeDirs(out));
  SL_ASSIGN_OR_RETURN(
      const MergeCheck check,
      SplitAndCheck(backend_, artifacts_->ModelDir(source.model.digest()),
                    adapter, JoinPath(out, kSplitAdapterDir),
                    JoinPath(out, kSplitBaseDir)));
  return ToProto(check);
}

absl::StatusOr<std::optional<registry::v1::MergeCheck>> ExportMaker::Make(
    const ExportRequest& request, const ExportSource& source,
    const std::string& out) const {
  std::optional<registry::v1::MergeCheck> check;
  if (request.format() == registry::v1::EXPORT_FORMAT_MERGED) {
    SL_ASSIGN_OR_RETURN(check, Merge(source, out));
    return check;
  }
  if (request.format() == registry::v1::EXPORT_FORMAT_SPLIT) {
    SL_ASSIGN_OR_RETURN(check, Split(source, out));
    return check;
  }
  SL_ASSIGN_OR_RETURN(const GgufFileType type, FileTypeOf(request.gguf_type()));
  std::string model_dir = artifacts_->ModelDir(source.model.digest());
  std::string name = source.model.name();
  std::unique_ptr<TempDir> merged;
  if (source.adapter) {
    SL_ASSIGN_OR_RETURN(merged, artifacts_->NewStaging());
    model_dir = JoinPath(merged->path(), "model");
    name = source.adapter->name();
    SL_ASSIGN_OR_RETURN(check, Merge(source, model_dir));
  }
  SL_ASSIGN_OR_RETURN(const auto room, ReserveRoom(*artifacts_, source.model,
                                                   BytesPerParameter(type)));
  SL_RETURN_IF_ERROR(MakeDirs(out));
  SL_RETURN_IF_ERROR(WriteGguf(
      model_dir, type,
      JoinPath(out, fmt::format("{}-{}.gguf", name,
                                std::string(GgufFileTypeName(type))))));
  return check;
}

}  // namespace sinklora::trainer
