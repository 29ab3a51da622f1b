// SPDX-License-Identifier: Apache-2.0
#include "common/weights/adapter_export.h"

#include <utility>
#include <vector>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/json.h"
#include "common/weights/carried_files.h"
#include "common/weights/merged_tensor.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_names.h"
#include "common/weights/safetensors_writer.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::ordered_json;

constexpr char kTokenizerConfigFile[] = "tokenizer_config.json";

absl::StatusOr<std::unique_ptr<ModelFiles>> OpenBase(
    const std::string& directory, const PeftAdapter& adapter) {
  SL_ASSIGN_OR_RETURN(auto base, ModelFiles::Open(directory));
  const absl::Status fits = CheckAdapter(adapter, base->config());
  if (fits.ok()) return base;
  return absl::FailedPreconditionError(
      fmt::format("the adapter does not fit {}: {}", directory,
                  std::string(fits.message())));
}

absl::StatusOr<std::string> MergedConfig(const ModelFiles& base,
                                         const PeftAdapter& adapter,
                                         bool tied) {
  // An adapter that does not say which context it is for leaves the base's.
  const double rope_factor = adapter.context_tokens > 0
                                 ? adapter.rope_factor
                                 : base.config().rope_factor;
  SL_ASSIGN_OR_RETURN(const std::string text,
                      WithRopeFactor(base.config_json(), rope_factor));
  if (tied == base.config().tie_word_embeddings) return text;
  ordered_json config = ordered_json::parse(text);
  config["tie_word_embeddings"] = tied;
  return config.dump(2) + "\n";
}

absl::Status WriteWeights(const MergedTensors& merged,
                          const LlamaConfig& config, const std::string& out,
                          int64_t max_shard_bytes) {
  std::vector<TensorSpec> specs;
  for (auto& [name, shape] : LlamaTensors(config)) {
    specs.push_back({name, FileDType::kBF16, shape});
  }
  SL_ASSIGN_OR_RETURN(
      const auto writer,
      ModelWeightsWriter::Create(out, std::move(specs), {{"format", "pt"}},
                                 static_cast<uint64_t>(max_shard_bytes)));
  for (const TensorSpec& spec : writer->tensors()) {
    SL_RETURN_IF_ERROR(merged.WriteBf16(spec.name, [&](std::string_view bytes) {
      return writer->Append(spec.name, bytes);
    }));
  }
  return writer->Finish();
}

// tokenizer_config.json must not cut at the base's context.
absl::Status RaiseModelMaxLength(const std::string& directory,
                                 int64_t context_tokens) {
  const std::string path = JoinPath(directory, kTokenizerConfigFile);
  if (!FileExists(path)) return absl::OkStatus();
  SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  SL_RETURN_IF_ERROR(ParseJsonObject(text, path).status());
  ordered_json config = ordered_json::parse(text);
  const auto length = config.find("model_max_length");
  if (length == config.end() || !length->is_number_integer() ||
      *length >= context_tokens) {
    return absl::OkStatus();
  }
  *length = context_tokens;
  return WriteFileAtomic(path, config.dump(2) + "\n");
}

absl::Status WriteModelFiles(const ModelFiles& base, const PeftAdapter& adapter,
                             bool merge_lora, const std::string& out,
                             int64_t max_shard_bytes) {
  SL_ASSIGN_OR_RETURN(const MergedTensors merged,
                      MergedTensors::Create(base, adapter, merge_lora));
  SL_ASSIGN_OR_RETURN(const std::string config_json,
                      MergedConfig(base, adapter, merged.tied()));
  SL_ASSIGN_OR_RETURN(const LlamaConfig config, ParseLlamaConfig(config_json));
  SL_RETURN_IF_ERROR(MakeDirs(out));
  SL_RETURN_IF_ERROR(WriteWeights(merged, config, out, max_shard_bytes));
  SL_RETURN_IF_ERROR(CopyCarriedFiles(base.directory(), out));
  SL_RETURN_IF_ERROR(RaiseModelMaxLength(out, config.context_tokens()));
  // Last: without it the directory is no model.
  return WriteFileAtomic(JoinPath(out, "config.json"), config_json);
}

// A directory that this call made does not outlive its failure.
absl::Status WriteModel(const ModelFiles& base, const PeftAdapter& adapter,
                        bool merge_lora, const std::string& out,
                        int64_t max_shard_bytes) {
  const bool existed = FileExists(out);
  const absl::Status written =
      WriteModelFiles(base, adapter, merge_lora, out, max_shard_bytes);
  if (!written.ok() && !existed) RemoveAll(out).IgnoreError();
  return written;
}

}  // namespace

absl::Status MergeAdapter(const std::string& base_directory,
                          const PeftAdapter& adapter,
                          const std::string& out_directory,
                          int64_t max_shard_bytes) {
  SL_ASSIGN_OR_RETURN(const auto base, OpenBase(base_directory, adapter));
  return WriteModel(*base, adapter, /*merge_lora=*/true, out_directory,
                    max_shard_bytes);
}

absl::Status WriteSplitAdapter(const std::string& base_directory,
                               const PeftAdapter& adapter,
                               const std::string& adapter_directory,
                               const std::string& base_out_directory,
                               int64_t max_shard_bytes) {
  SL_ASSIGN_OR_RETURN(const auto base, OpenBase(base_directory, adapter));
  SL_RETURN_IF_ERROR(WriteModel(*base, adapter, /*merge_lora=*/false,
                                base_out_directory, max_shard_bytes));
  PeftAdapter lora = adapter;
  lora.full.clear();
  lora.modules_to_save.clear();
  lora.ensure_weight_tying = false;
  // modules_to_save may have kept modules from LoRA that the other keys select;
  // full names then say what was selected.
  if (!CheckAdapter(lora, base->config()).ok()) {
    lora.target_modules = {};
    for (const auto& [module, a] : adapter.lora_a) {
      lora.target_modules.names.push_back(module);
    }
  }
  return WritePeftAdapter(lora, adapter_directory);
}

}  // namespace sinklora
