// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/checkpoint.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/model/internal/overlapped_reader.h"
#include "common/weights/checkpoint_manifest.h"
#include "common/weights/safetensors.h"
#include "common/weights/safetensors_writer.h"

namespace sinklora::internal {
namespace {

using nlohmann::json;

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

absl::Status CheckCheckpointStateFile(const CheckpointManifest& manifest,
                                      const std::string& path) {
  SL_ASSIGN_OR_RETURN(const int64_t size, FileSize(path));
  if (size != manifest.state_size_bytes) {
    return Damaged(path, fmt::format("has {} bytes, must have {}", size,
                                     manifest.state_size_bytes));
  }
  SL_ASSIGN_OR_RETURN(const std::string digest, Sha256OfFile(path));
  if (digest == manifest.state_sha256) return absl::OkStatus();
  return Damaged(path, fmt::format("SHA-256 is {}, must be {}", digest,
                                   manifest.state_sha256));
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

// Piece by piece: the state may not fit in memory a second time.
absl::Status WriteState(kernels::Backend* backend,
                        const TrainableSet& trainables,
                        const std::string& path) {
  std::map<std::string, const DeviceTensor*> by_name;
  std::vector<TensorSpec> specs;
  for (const Trainable& t : trainables.tensors()) {
    for (const auto& [suffix, tensor] : Parts(t)) {
      by_name[t.spec.name + suffix] = tensor;
      specs.push_back({t.spec.name + suffix, FileDType::kF32, t.spec.shape});
    }
  }
  SL_ASSIGN_OR_RETURN(const auto writer,
                      SafetensorsWriter::Create(path, std::move(specs), {}));
  OverlappedReader reader(backend);
  for (const TensorSpec& spec : writer->tensors()) {
    const DeviceTensor& tensor = *by_name.at(spec.name);
    const auto append = [&writer, &spec](std::string_view bytes) {
      return writer->Append(spec.name, bytes);
    };
    SL_RETURN_IF_ERROR(
        reader.Read(tensor.view().data, tensor.size_bytes(), append));
  }
  SL_RETURN_IF_ERROR(reader.Finish());
  return writer->Finish();
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
  const std::string state_path = JoinPath(directory, kCheckpointStateFile);
  SL_RETURN_IF_ERROR(WriteState(backend, trainables, state_path));
  SL_ASSIGN_OR_RETURN(const int64_t size, FileSize(state_path));
  SL_ASSIGN_OR_RETURN(const std::string digest, Sha256OfFile(state_path));
  return WriteCheckpointManifest(directory, {step, options_json, size, digest});
}

absl::StatusOr<int64_t> ReadCheckpoint(kernels::Backend* backend,
                                       const std::string& options_json,
                                       const std::string& directory,
                                       TrainableSet* trainables) {
  SL_ASSIGN_OR_RETURN(const CheckpointManifest manifest,
                      ReadCheckpointManifest(directory));
  if (manifest.options_json != options_json) {
    return absl::FailedPreconditionError(
        fmt::format("{}: options are {}, must be those of this run, {}",
                    JoinPath(directory, kCheckpointManifestFile),
                    manifest.options_json, options_json));
  }
  const std::string state_path = JoinPath(directory, kCheckpointStateFile);
  SL_RETURN_IF_ERROR(CheckCheckpointStateFile(manifest, state_path));
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
  SL_RETURN_IF_ERROR(trainables->StateChanged());
  return manifest.step;
}

}  // namespace sinklora::internal
