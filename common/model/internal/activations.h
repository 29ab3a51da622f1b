// Layouts of what a forward (and backward) pass keeps on the device. All f32
// unless said otherwise.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_ACTIVATIONS_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_ACTIVATIONS_H_

#include <cstdint>
#include <vector>

#include "common/model/internal/arena.h"
#include "common/model/internal/linear.h"
#include "common/model/options.h"
#include "common/weights/llama_config.h"
#include "kernels/tensor.h"

namespace sinklora::internal {

// Which inputs of a layer's linear maps the backward pass reads: those of maps
// whose weight or LoRA matrices are trained. The others need not be kept.
struct KeptInputs {
  bool attention = true;  // of q, k, v
  bool mlp = true;        // of gate, up
  bool product = true;    // of down
};
KeptInputs KeptInputsOf(const TrainingOptions& options);

// How many rows the tensors of a pass have.
struct PassRows {
  int64_t tokens = 0;
  int64_t lead = 0;  // more before them, in attention
  int64_t lent = 0;  // of them, what other ranks read
};

// `x` and the `lead` rows that lie before it.
kernels::TensorView WithLead(const kernels::TensorView& x, int64_t lead);

// Everything inside one layer that its backward pass reads. Before the rows of
// q, k, v and attention lie the `lead` rows.
struct LayerActivations {
  int64_t lead = 0;
  kernels::TensorView attention_input;    // [tokens, hidden], normed
  kernels::TensorView attention_inv_rms;  // [tokens]
  kernels::TensorView q;     // [tokens, heads * head_dim], after RoPE
  kernels::TensorView k, v;  // [tokens, kv_heads * head_dim]
  // With qk_norm: q and k before it, and the norms of their heads. Else empty.
  kernels::TensorView q_raw, k_raw;          // as q, k
  kernels::TensorView q_inv_rms, k_inv_rms;  // [tokens * heads or kv_heads]
  kernels::TensorView lse;                   // [heads, lead + tokens]
  kernels::TensorView attention;             // [tokens, heads * head_dim]
  kernels::TensorView middle;  // [tokens, hidden], after the attention residual
  kernels::TensorView mlp_input;          // [tokens, hidden], normed
  kernels::TensorView mlp_inv_rms;        // [tokens]
  kernels::TensorView gate, up, product;  // [tokens, intermediate]

  static LayerActivations Take(const LlamaConfig& config, int64_t tokens,
                               Arena* arena) {
    return Take(config, {.tokens = tokens}, KeptInputs(), nullptr, arena);
  }
  // What is not `kept` is that of `shared`, where given.
  static LayerActivations Take(const LlamaConfig& config, const PassRows& rows,
                               const KeptInputs& kept,
                               const LayerActivations* shared, Arena* arena);
};

// Temporaries of the backward pass, shared by all layers. Before the rows of
// dattention, dq, dk and dv lie those of the lead.
struct BackwardScratch {
  kernels::TensorView dresidual;   // [tokens, hidden]: gradient that flows down
                                   // the residual stream
  kernels::TensorView dhidden;     // [tokens, hidden]: of a normed input
  kernels::TensorView dattention;  // [tokens, heads * head_dim]
  kernels::TensorView dq, dk, dv;  // as q, k, v
  // [2 * lent, kv_heads * head_dim]: of k and v, from other ranks.
  kernels::TensorView received;

  static BackwardScratch Take(const LlamaConfig& config, const PassRows& rows,
                              Arena* arena);
};

enum class PassKind {
  kForward,    // loss only
  kRecompute,  // forward keeps layer inputs, backward recomputes the rest
  kKeep,       // forward keeps everything
};

// A whole pass.
struct PassActivations {
  PassKind kind = PassKind::kForward;
  kernels::TensorView ids, positions, labels;  // [tokens] i32
  // Input of every layer, then the output of the last: num_layers + 1 views.
  // kForward alternates between two buffers.
  std::vector<kernels::TensorView> residual;
  std::vector<LayerActivations> layers;  // num_layers with kKeep, else one
  kernels::TensorView final_input;       // [tokens, hidden], normed
  kernels::TensorView final_inv_rms;     // [tokens]
  kernels::TensorView nll;               // [tokens]; kForward only
  LoraScratch lora;
  BackwardScratch backward;  // not of kForward

  const LayerActivations& layer(int64_t i) const {
    return kind == PassKind::kKeep ? layers[i] : layers[0];
  }
  // With kKeep layers share the inputs that are not `kept`.
  static PassActivations Take(const LlamaConfig& config, PassKind kind,
                              const KeptInputs& kept, const PassRows& rows,
                              int64_t max_lora_rank, Arena* arena);
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_ACTIVATIONS_H_
