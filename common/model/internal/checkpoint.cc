// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/checkpoint.h"

#include <fmt/format.h>

#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/weights/safetensors.h"

namespace sinklora::internal {
namespace {

using nlohmann::json;

constexpr char kStateFile[] = "state.safetensors";
constexpr char kManifestFile[] = "manifest.json";
constexpr char kFormat[] = "sinklora-training-checkpoint";
constexpr int64_t kFormatVersion = 1;

absl::Status Damaged(const std::string& path, const std::string& defect) {
  return absl::DataLossError(fmt::format("{}: {}", path, defect));
}

json AttentionJson(const AttentionOptions& o) {
  return {{"pattern", static_cast<int>(o.pattern)},
          {"group_ratio", o.group_ratio},
          {"group_size_tokens", o.group_size_tokens},
          {"full_below_tokens", o.full_below_tokens},
          {"return_ratio", o.return_ratio},
          {"sink_tokens", o.sink_tokens}};
}

json LoraJson(const LoraOptions& o) {
  return {{"rank", o.rank},
          {"lora_alpha", o.lora_alpha},
          {"use_rslora", o.use_rslora},
          {"target_modules", o.target_modules},
          {"freeze_embedding_and_norms", o.freeze_embedding_and_norms}};
}

json OptimizerJson(const OptimizerOptions& o) {
  return {{"learning_rate", o.learning_rate},
          {"warmup_steps", o.warmup_steps},
          {"schedule", static_cast<int>(o.schedule)},
          {"min_learning_rate", o.min_learning_rate},
          {"beta1", o.beta1},
          {"beta2", o.beta2},
          {"eps", o.eps},
          {"weight_decay", o.weight_decay},
          {"clip_norm", o.clip_norm}};
}

// The parts of a trainable tensor's state, by the suffix of their names.
std::vector<std::pair<const char*, const DeviceTensor*>> Parts(
    const Trainable& t) {
  return {{"", &t.master}, {".adam_m", &t.m}, {".adam_v", &t.v}};
}

absl::StatusOr<json> ReadManifest(const std::string& path) {
  SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  json manifest = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const bool sound =
      manifest.is_object() && manifest.value("format", json()) == kFormat &&
      manifest.value("step", json()).is_number_integer() &&
      manifest.value("options", json()).is_object() &&
      manifest.value("state_size_bytes", json()).is_number_integer() &&
      manifest.value("state_sha256", json()).is_string();
  if (!sound) {
    return Damaged(path, fmt::format("is not a manifest of {}", kFormat));
  }
  if (manifest.value("version", json()) != kFormatVersion) {
    return absl::FailedPreconditionError(
        fmt::format("{}: version is {}, must be {}", path,
                    manifest.value("version", json()).dump(), kFormatVersion));
  }
  return manifest;
}

absl::Status CheckStateFile(const json& manifest, const std::string& path) {
  SL_ASSIGN_OR_RETURN(const int64_t size, FileSize(path));
  const int64_t wanted_size = manifest["state_size_bytes"].get<int64_t>();
  if (size != wanted_size) {
    return Damaged(
        path, fmt::format("has {} bytes, must have {}", size, wanted_size));
  }
  SL_ASSIGN_OR_RETURN(const std::string digest, Sha256OfFile(path));
  const auto wanted = manifest["state_sha256"].get<std::string>();
  if (digest == wanted) return absl::OkStatus();
  return Damaged(path,
                 fmt::format("SHA-256 is {}, must be {}", digest, wanted));
}

absl::StatusOr<StoredTensor> FindState(const SafetensorsFile& file,
                                       const std::string& path,
                                       const std::string& name,
                                       const std::vector<int64_t>& shape) {
  const auto it = file.tensors().find(name);
  if (it == file.tensors().end()) {
    return Damaged(path, fmt::format("tensor {} is missing", name));
  }
  if (it->second.dtype != FileDType::kF32 || it->second.shape != shape) {
    return Damaged(path,
                   fmt::format("tensor {} has the wrong dtype or shape", name));
  }
  return it->second;
}

}  // namespace

std::string OptionsJson(const LlamaConfig& config,
                        const TrainingOptions& options) {
  json out = {{"base", json::parse(ToJson(config), nullptr, false)},
              {"full_parameter", options.full_parameter},
              {"context_tokens", options.context_tokens},
              {"attention", AttentionJson(options.attention)},
              {"optimizer", OptimizerJson(options.optimizer)},
              {"micro_batch_examples", options.micro_batch_examples},
              {"accumulation_steps", options.accumulation_steps},
              {"seed", options.seed},
              {"matrix_dtype", static_cast<int>(options.matrix_dtype)}};
  if (!options.full_parameter) out["lora"] = LoraJson(options.lora);
  return out.dump();
}

absl::Status WriteCheckpoint(kernels::Backend* backend,
                             const TrainableSet& trainables, int64_t step,
                             const std::string& options_json,
                             const std::string& directory) {
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  std::list<TensorBytes> bytes;  // stable addresses for the views
  std::map<std::string, StoredTensor> state;
  for (const Trainable& t : trainables.tensors()) {
    for (const auto& [suffix, tensor] : Parts(t)) {
      SL_ASSIGN_OR_RETURN(const std::vector<float> values,
                          Download(backend, tensor->view()));
      bytes.emplace_back(values.data(), t.spec.shape, FileDType::kF32);
      state[t.spec.name + suffix] = bytes.back().view();
    }
  }
  const std::string state_path = JoinPath(directory, kStateFile);
  SL_RETURN_IF_ERROR(WriteSafetensors(state_path, state, {}));
  SL_ASSIGN_OR_RETURN(const int64_t size, FileSize(state_path));
  SL_ASSIGN_OR_RETURN(const std::string digest, Sha256OfFile(state_path));
  const json manifest = {{"format", kFormat},
                         {"version", kFormatVersion},
                         {"step", step},
                         {"options", json::parse(options_json, nullptr, false)},
                         {"state_size_bytes", size},
                         {"state_sha256", digest}};
  return WriteFileAtomic(JoinPath(directory, kManifestFile),
                         manifest.dump(2) + "\n");
}

absl::StatusOr<int64_t> ReadCheckpoint(kernels::Backend* backend,
                                       const std::string& options_json,
                                       const std::string& directory,
                                       TrainableSet* trainables) {
  const std::string manifest_path = JoinPath(directory, kManifestFile);
  SL_ASSIGN_OR_RETURN(const json manifest, ReadManifest(manifest_path));
  if (manifest["options"].dump() != options_json) {
    return absl::FailedPreconditionError(
        fmt::format("{}: options are {}, must be those of this run, {}",
                    manifest_path, manifest["options"].dump(), options_json));
  }
  const std::string state_path = JoinPath(directory, kStateFile);
  SL_RETURN_IF_ERROR(CheckStateFile(manifest, state_path));
  SL_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(state_path));
  std::vector<std::pair<StoredTensor, const DeviceTensor*>> copies;
  for (const Trainable& t : trainables->tensors()) {
    for (const auto& [suffix, tensor] : Parts(t)) {
      SL_ASSIGN_OR_RETURN(
          const StoredTensor stored,
          FindState(*file, state_path, t.spec.name + suffix, t.spec.shape));
      copies.emplace_back(stored, tensor);
    }
  }
  for (const auto& [stored, tensor] : copies) {
    SL_RETURN_IF_KERNEL_ERROR(
        backend->CopyToDevice(stored.bytes.data(), tensor->view().data,
                              static_cast<int64_t>(stored.bytes.size())));
  }
  SL_RETURN_IF_ERROR(trainables->RefreshProducts());
  return manifest["step"].get<int64_t>();
}

}  // namespace sinklora::internal
