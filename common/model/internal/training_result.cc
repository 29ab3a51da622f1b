// What a training run leaves behind: checkpoints, and the adapter or model that
// users get.
//
// SPDX-License-Identifier: Apache-2.0
#include <utility>
#include <vector>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/model/internal/checkpoint.h"
#include "common/model/internal/training_run_impl.h"
#include "common/weights/carried_files.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/safetensors_writer.h"

namespace sinklora::internal {
namespace {

// Embedding and norms are trained all or none, so that short names select them.
// A tied head was trained as the embedding and is listed by its own name.
void NameFullModules(const LlamaConfig& config, PeftAdapter* adapter) {
  const auto embedding = adapter->full.find(std::string(kEmbeddingTensor));
  if (embedding == adapter->full.end()) return;
  adapter->modules_to_save = {"embed_tokens", "input_layernorm",
                              "post_attention_layernorm", "norm"};
  if (!config.tie_word_embeddings) return;
  adapter->full[std::string(kHeadTensor)] = embedding->second;
  adapter->modules_to_save.push_back("lm_head");
}

}  // namespace

absl::Status TrainingRunImpl::SaveCheckpoint(const std::string& directory) {
  return WriteCheckpoint(backend_, trainables_, step_,
                         OptionsJson(config_, options_), directory);
}

absl::Status TrainingRunImpl::LoadCheckpoint(const std::string& directory) {
  SL_ASSIGN_OR_RETURN(
      step_, ReadCheckpoint(backend_, OptionsJson(config_, options_), directory,
                            &trainables_));
  return absl::OkStatus();
}

absl::Status TrainingRunImpl::WriteResult(const std::string& base_model_name,
                                          const std::string& base_directory,
                                          const std::string& out_directory) {
  return options_.full_parameter ? WriteModel(base_directory, out_directory)
                                 : WriteAdapter(base_model_name, out_directory);
}

absl::Status TrainingRunImpl::WriteAdapter(const std::string& base_model_name,
                                           const std::string& out_directory) {
  PeftAdapter adapter;
  adapter.base_model = base_model_name;
  adapter.rank = options_.lora.rank;
  adapter.lora_alpha = options_.lora.lora_alpha;
  adapter.use_rslora = options_.lora.use_rslora;
  adapter.target_modules.names = options_.lora.target_modules;
  adapter.context_tokens = options_.context_tokens;
  SL_ASSIGN_OR_RETURN(adapter.rope_factor,
                      RopeFactorFor(config_, options_.context_tokens));
  for (const Trainable& t : trainables_.tensors()) {
    const std::string& name = t.spec.name;
    SL_ASSIGN_OR_RETURN(const std::vector<float> values,
                        Download(backend_, t.master.view()));
    HostTensor host = HostTensor::FromF32(t.spec.shape, values);
    const std::string module = name.substr(0, name.rfind('.'));
    if (name.ends_with(kLoraASuffix)) {
      adapter.lora_a[module] = std::move(host);
    } else if (name.ends_with(kLoraBSuffix)) {
      adapter.lora_b[module] = std::move(host);
    } else {
      adapter.full[name] = std::move(host);
    }
  }
  NameFullModules(config_, &adapter);
  return WritePeftAdapter(adapter, out_directory);
}

absl::Status TrainingRunImpl::WriteModel(const std::string& base_directory,
                                         const std::string& out_directory) {
  SL_RETURN_IF_ERROR(MakeDirs(out_directory));
  // One tensor at a time: the weights may not fit in memory a second time.
  std::vector<TensorSpec> specs;
  for (const Trainable& t : trainables_.tensors()) {
    specs.push_back({t.spec.name, FileDType::kBF16, t.spec.shape});
  }
  SL_ASSIGN_OR_RETURN(const auto writer,
                      ModelWeightsWriter::Create(
                          out_directory, std::move(specs), {{"format", "pt"}}));
  for (const TensorSpec& spec : writer->tensors()) {
    SL_ASSIGN_OR_RETURN(
        const std::vector<float> values,
        Download(backend_, trainables_.Find(spec.name)->master.view()));
    const TensorBytes bytes(values.data(), spec.shape, spec.dtype);
    SL_RETURN_IF_ERROR(writer->Append(spec.name, bytes.view().bytes));
  }
  SL_RETURN_IF_ERROR(writer->Finish());
  SL_RETURN_IF_ERROR(CopyCarriedFiles(base_directory, out_directory));
  SL_ASSIGN_OR_RETURN(const std::string base_config,
                      ReadFile(JoinPath(base_directory, "config.json")));
  SL_ASSIGN_OR_RETURN(const double rope_factor,
                      RopeFactorFor(config_, options_.context_tokens));
  SL_ASSIGN_OR_RETURN(const std::string config,
                      WithRopeFactor(base_config, rope_factor));
  return WriteFileAtomic(JoinPath(out_directory, "config.json"), config);
}

}  // namespace sinklora::internal
