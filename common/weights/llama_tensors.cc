// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "common/weights/model_files.h"
#include "fmt/format.h"

namespace sinklora {

std::vector<std::pair<std::string, std::vector<int64_t>>> LlamaTensors(
    const LlamaConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t mlp = config.intermediate_size;
  const int64_t query = config.num_heads * config.head_dim;
  const int64_t key = config.num_kv_heads * config.head_dim;
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;
  tensors.push_back({"model.embed_tokens.weight", {config.vocab_size, hidden}});
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const auto add = [&](const char* name, std::vector<int64_t> shape) {
      tensors.push_back({fmt::format("model.layers.{}.{}.weight", i, name),
                         std::move(shape)});
    };
    add("input_layernorm", {hidden});
    add("self_attn.q_proj", {query, hidden});
    add("self_attn.k_proj", {key, hidden});
    add("self_attn.v_proj", {key, hidden});
    add("self_attn.o_proj", {hidden, query});
    add("post_attention_layernorm", {hidden});
    add("mlp.gate_proj", {mlp, hidden});
    add("mlp.up_proj", {mlp, hidden});
    add("mlp.down_proj", {hidden, mlp});
  }
  tensors.push_back({"model.norm.weight", {hidden}});
  if (!config.tie_word_embeddings) {
    tensors.push_back({"lm_head.weight", {config.vocab_size, hidden}});
  }
  return tensors;
}

}  // namespace sinklora
