// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/model_weights.h"

#include <fmt/format.h>

#include <algorithm>

namespace sinklora::internal {
namespace {

LinearWeights BindLinear(const WeightSource& source, const std::string& module,
                         bool bias) {
  LinearWeights out;
  const std::string tensor = module + ".weight";
  out.weight = source.product(tensor);
  out.dweight = source.gradient(tensor);
  if (bias) {
    out.bias = source.value(module + ".bias").dense;
    out.dbias = source.gradient(module + ".bias");
  }
  source.lora(module, &out);
  return out;
}

NormWeights BindNorm(const WeightSource& source, const std::string& tensor) {
  return {source.value(tensor).dense, source.gradient(tensor)};
}

}  // namespace

std::string LayerTensor(int64_t layer, std::string_view suffix) {
  return fmt::format("model.layers.{}.{}", layer, suffix);
}

std::string ModuleOfTarget(std::string_view target) {
  const bool mlp =
      target == "gate_proj" || target == "up_proj" || target == "down_proj";
  return fmt::format("{}.{}", mlp ? "mlp" : "self_attn", target);
}

bool IsNorm(std::string_view tensor_name) {
  return tensor_name.ends_with("norm.weight");
}

bool IsEmbedding(std::string_view tensor_name) {
  return tensor_name == kEmbeddingTensor;
}

bool IsVector(std::string_view tensor_name) {
  return IsNorm(tensor_name) || tensor_name.ends_with(".bias");
}

LayerWeights BindLayer(const LlamaConfig& config, const WeightSource& source,
                       int64_t layer) {
  const auto linear = [&](const char* module, bool bias) {
    return BindLinear(source, LayerTensor(layer, module), bias);
  };
  LayerWeights out;
  out.attention_norm =
      BindNorm(source, LayerTensor(layer, "input_layernorm.weight"));
  out.q = linear("self_attn.q_proj", config.qkv_bias);
  out.k = linear("self_attn.k_proj", config.qkv_bias);
  out.v = linear("self_attn.v_proj", config.qkv_bias);
  out.o = linear("self_attn.o_proj", config.o_bias);
  if (config.qk_norm) {
    out.q_norm =
        BindNorm(source, LayerTensor(layer, "self_attn.q_norm.weight"));
    out.k_norm =
        BindNorm(source, LayerTensor(layer, "self_attn.k_norm.weight"));
  }
  out.mlp_norm =
      BindNorm(source, LayerTensor(layer, "post_attention_layernorm.weight"));
  out.gate = linear("mlp.gate_proj", config.mlp_bias);
  out.up = linear("mlp.up_proj", config.mlp_bias);
  out.down = linear("mlp.down_proj", config.mlp_bias);
  return out;
}

ModelWeights BindWeights(const LlamaConfig& config,
                         const WeightSource& source) {
  ModelWeights out;
  const std::string embedding(kEmbeddingTensor);
  out.embedding = source.value(embedding);
  out.dembedding = source.gradient(embedding);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    out.layers.push_back(BindLayer(config, source, i));
    const LayerWeights& l = out.layers.back();
    for (const LinearWeights* w :
         {&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down}) {
      out.max_lora_rank = std::max(out.max_lora_rank, w->rank());
    }
  }
  out.final_norm = BindNorm(source, std::string(kFinalNormTensor));
  const std::string head =
      config.tie_word_embeddings ? embedding : std::string(kHeadTensor);
  out.head = source.product(head);
  out.dhead = source.gradient(head);
  return out;
}

}  // namespace sinklora::internal
