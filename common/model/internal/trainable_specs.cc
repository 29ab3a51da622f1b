// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/model_weights.h"
#include "common/model/internal/trainable.h"

namespace sinklora::internal {
namespace {

void AddLora(const LlamaConfig& config, const LoraOptions& lora,
             std::vector<TrainableSpec>* out) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& [name, shape] : LlamaTensors(config)) shapes[name] = shape;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const std::string& target : lora.target_modules) {
      const std::string module = LayerTensor(layer, ModuleOfTarget(target));
      const std::vector<int64_t>& shape = shapes.at(module + ".weight");
      out->push_back({.name = module + kLoraASuffix,
                      .shape = {lora.rank, shape[1]},
                      .init = InitKind::kKaimingUniform,
                      .weight_decay = true});
      out->push_back({.name = module + kLoraBSuffix,
                      .shape = {shape[0], lora.rank},
                      .init = InitKind::kZero,
                      .weight_decay = true});
    }
  }
}

bool IsTrained(const std::string& name, const TrainingOptions& options) {
  if (options.full_parameter) return true;
  return !options.lora.freeze_embedding_and_norms &&
         (IsNorm(name) || IsEmbedding(name));
}

}  // namespace

int64_t TrainableSpec::num_elements() const {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

std::vector<TrainableSpec> TrainableSpecs(const LlamaConfig& config,
                                          const TrainingOptions& options) {
  std::vector<TrainableSpec> out;
  const bool bf16 = options.matrix_dtype == kernels::DType::kBF16;
  for (const auto& [name, shape] : LlamaTensors(config)) {
    if (!IsTrained(name, options)) continue;
    const bool matrix = !IsVector(name) && !IsEmbedding(name);
    // The embedding is a matrix operand only where it is the head too.
    const bool operand =
        matrix || (IsEmbedding(name) && config.tie_word_embeddings);
    out.push_back({.name = name,
                   .shape = shape,
                   .init = InitKind::kFromBase,
                   .weight_decay = matrix,
                   .bf16_product = bf16 && operand,
                   .gradient_of_tokens =
                       IsEmbedding(name) && !config.tie_word_embeddings});
  }
  if (!options.full_parameter) AddLora(config, options.lora, &out);
  return out;
}

}  // namespace sinklora::internal
