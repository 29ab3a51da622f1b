// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "common/weights/model_files.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using TensorList = std::vector<std::pair<std::string, std::vector<int64_t>>>;

// Appends the tensors of one layer.
class LayerTensors {
 public:
  LayerTensors(int64_t layer, TensorList* list) : layer_(layer), list_(list) {}

  void Vector(const char* module, int64_t size) {
    Add(module, "weight", {size});
  }
  void Linear(const char* module, int64_t out, int64_t in, bool bias) {
    Add(module, "weight", {out, in});
    if (bias) Add(module, "bias", {out});
  }

 private:
  void Add(const char* module, const char* kind, std::vector<int64_t> shape) {
    list_->push_back(
        {fmt::format("model.layers.{}.{}.{}", layer_, module, kind),
         std::move(shape)});
  }
  const int64_t layer_;
  TensorList* const list_;
};

}  // namespace

std::vector<std::pair<std::string, std::vector<int64_t>>> LlamaTensors(
    const LlamaConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t mlp = config.intermediate_size;
  const int64_t query = config.num_heads * config.head_dim;
  const int64_t key = config.num_kv_heads * config.head_dim;
  TensorList tensors;
  tensors.push_back({"model.embed_tokens.weight", {config.vocab_size, hidden}});
  for (int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors layer(i, &tensors);
    layer.Vector("input_layernorm", hidden);
    layer.Linear("self_attn.q_proj", query, hidden, config.qkv_bias);
    layer.Linear("self_attn.k_proj", key, hidden, config.qkv_bias);
    layer.Linear("self_attn.v_proj", key, hidden, config.qkv_bias);
    layer.Linear("self_attn.o_proj", hidden, query, config.o_bias);
    if (config.qk_norm) {
      layer.Vector("self_attn.q_norm", config.head_dim);
      layer.Vector("self_attn.k_norm", config.head_dim);
    }
    layer.Vector("post_attention_layernorm", hidden);
    layer.Linear("mlp.gate_proj", mlp, hidden, config.mlp_bias);
    layer.Linear("mlp.up_proj", mlp, hidden, config.mlp_bias);
    layer.Linear("mlp.down_proj", hidden, mlp, config.mlp_bias);
  }
  tensors.push_back({"model.norm.weight", {hidden}});
  if (!config.tie_word_embeddings) {
    tensors.push_back({"lm_head.weight", {config.vocab_size, hidden}});
  }
  return tensors;
}

}  // namespace sinklora
