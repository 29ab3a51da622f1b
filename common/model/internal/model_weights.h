// The weights of a Llama graph as views: what to multiply with, and where
// gradients go. Training and serving bind the same structures to different
// memory, so that the graph is written once.
//
// Views own nothing. Plain values: thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_MODEL_WEIGHTS_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_MODEL_WEIGHTS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/internal/matrix_view.h"
#include "common/weights/llama_config.h"
#include "kernels/tensor.h"

namespace sinklora::internal {

// y = (x W^T + lora_scale * (x A^T) B^T) * diag(row_scale) + bias. An empty
// gradient view means frozen; an empty bias none; empty A and B no LoRA; an
// empty row_scale ones.
struct LinearWeights {
  MatrixView weight;                // [out, in]
  kernels::ConstTensorView bias;    // [out] f32
  kernels::ConstTensorView lora_a;  // [rank, in] f32
  kernels::ConstTensorView lora_b;  // [out, rank] f32
  // [out] f32: what DoRA multiplies the rows of W + lora_scale B A with.
  kernels::ConstTensorView row_scale;
  float lora_scale = 0;
  kernels::TensorView dweight;  // f32, shapes of the above, added to
  kernels::TensorView dbias;
  kernels::TensorView dlora_a;
  kernels::TensorView dlora_b;

  int64_t rank() const { return lora_a.empty() ? 0 : lora_a.shape[0]; }
};

struct NormWeights {
  kernels::ConstTensorView weight;  // [width of what is normed] f32
  kernels::TensorView dweight;      // empty: frozen
};

struct LayerWeights {
  NormWeights attention_norm;
  LinearWeights q, k, v, o;
  NormWeights q_norm, k_norm;  // of every head; without qk_norm empty
  NormWeights mlp_norm;
  LinearWeights gate, up, down;
};

struct ModelWeights {
  MatrixView embedding;            // [vocab, hidden]
  kernels::TensorView dembedding;  // empty: frozen
  std::vector<LayerWeights> layers;
  NormWeights final_norm;
  MatrixView head;            // [vocab, hidden]; the embedding when tied
  kernels::TensorView dhead;  // dembedding when tied
  int64_t max_lora_rank = 0;
};

// Where a binder finds memory, by Hugging Face tensor name. Functions may
// return an empty view for "frozen".
struct WeightSource {
  // Operand of matrix products (may be a bf16 copy of a trained tensor).
  std::function<MatrixView(const std::string& tensor)> product;
  // The values themselves: norms and biases (dense), and the embedding lookup.
  std::function<MatrixView(const std::string& tensor)> value;
  std::function<kernels::TensorView(const std::string& tensor)> gradient;
  // Fills the LoRA fields of `module` (e.g. "model.layers.0.self_attn.q_proj")
  // when it has them.
  std::function<void(const std::string& module, LinearWeights* weights)> lora;
};

ModelWeights BindWeights(const LlamaConfig& config, const WeightSource& source);
// One layer of it, for who has not all in memory.
LayerWeights BindLayer(const LlamaConfig& config, const WeightSource& source,
                       int64_t layer);

// "model.layers.<layer>.<suffix>".
std::string LayerTensor(int64_t layer, std::string_view suffix);
// Names of LoRA target "q_proj" .. "down_proj" inside a layer:
// "self_attn.q_proj" .. "mlp.down_proj".
std::string ModuleOfTarget(std::string_view target);

// Norms of layers, of the model and of q and k, as LongLoRA trains them.
bool IsNorm(std::string_view tensor_name);
bool IsEmbedding(std::string_view tensor_name);
// Norms and biases stay f32 whatever the matrices are stored as.
bool IsVector(std::string_view tensor_name);

inline constexpr std::string_view kEmbeddingTensor =
    "model.embed_tokens.weight";
inline constexpr std::string_view kHeadTensor = "lm_head.weight";
inline constexpr std::string_view kFinalNormTensor = "model.norm.weight";

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_MODEL_WEIGHTS_H_
