// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/activations.h"

#include <algorithm>
#include <initializer_list>
#include <string>

namespace sinklora::internal {

using kernels::DType;

namespace {

// [tokens, columns] behind as many rows as the lead has.
kernels::TensorView TakeWithLead(const PassRows& rows, int64_t columns,
                                 Arena* arena) {
  const kernels::TensorView all =
      arena->Take(DType::kF32, {rows.lead + rows.tokens, columns});
  if (!all.empty()) return all.Rows(rows.lead, rows.tokens);
  return kernels::TensorView(nullptr, DType::kF32, {rows.tokens, columns});
}

}  // namespace

kernels::TensorView WithLead(const kernels::TensorView& x, int64_t lead) {
  return x.Rows(-lead, lead + x.shape[0]);
}

KeptInputs KeptInputsOf(const TrainingOptions& options) {
  if (options.full_parameter) return {};
  const auto tunes = [&](std::initializer_list<const char*> modules) {
    const std::vector<std::string>& targets = options.lora.target_modules;
    return std::find_first_of(targets.begin(), targets.end(), modules.begin(),
                              modules.end()) != targets.end();
  };
  return {.attention = tunes({"q_proj", "k_proj", "v_proj"}),
          .mlp = tunes({"gate_proj", "up_proj"}),
          .product = tunes({"down_proj"})};
}

LayerActivations LayerActivations::Take(const LlamaConfig& config,
                                        const PassRows& rows,
                                        const KeptInputs& kept,
                                        const LayerActivations* shared,
                                        Arena* arena) {
  const int64_t tokens = rows.tokens;
  const int64_t hidden = config.hidden_size;
  const int64_t heads = config.num_heads * config.head_dim;
  const int64_t kv_heads = config.num_kv_heads * config.head_dim;
  const auto take = [&](int64_t columns) {
    return arena->Take(DType::kF32, {tokens, columns});
  };
  LayerActivations out;
  out.lead = rows.lead;
  const auto take_or_share = [&](bool keep,
                                 kernels::TensorView LayerActivations::*input,
                                 int64_t columns) {
    out.*input = keep || shared == nullptr ? take(columns) : shared->*input;
  };
  take_or_share(kept.attention, &LayerActivations::attention_input, hidden);
  out.attention_inv_rms = arena->Take(DType::kF32, {tokens});
  out.q = TakeWithLead(rows, heads, arena);
  out.k = TakeWithLead(rows, kv_heads, arena);
  out.v = TakeWithLead(rows, kv_heads, arena);
  if (config.qk_norm) {
    out.q_raw = take(heads);
    out.k_raw = take(kv_heads);
    out.q_inv_rms = arena->Take(DType::kF32, {tokens * config.num_heads});
    out.k_inv_rms = arena->Take(DType::kF32, {tokens * config.num_kv_heads});
  }
  out.lse = arena->Take(DType::kF32, {config.num_heads, rows.lead + tokens});
  out.attention = TakeWithLead(rows, heads, arena);
  out.middle = take(hidden);
  take_or_share(kept.mlp, &LayerActivations::mlp_input, hidden);
  out.mlp_inv_rms = arena->Take(DType::kF32, {tokens});
  out.gate = take(config.intermediate_size);
  out.up = take(config.intermediate_size);
  take_or_share(kept.product, &LayerActivations::product,
                config.intermediate_size);
  return out;
}

BackwardScratch BackwardScratch::Take(const LlamaConfig& config,
                                      const PassRows& rows, Arena* arena) {
  const int64_t heads = config.num_heads * config.head_dim;
  const int64_t kv_heads = config.num_kv_heads * config.head_dim;
  const auto hidden = [&] {
    return arena->Take(DType::kF32, {rows.tokens, config.hidden_size});
  };
  BackwardScratch out;
  out.dresidual = hidden();
  out.dhidden = hidden();
  out.dattention = TakeWithLead(rows, heads, arena);
  out.dq = TakeWithLead(rows, heads, arena);
  out.dk = TakeWithLead(rows, kv_heads, arena);
  out.dv = TakeWithLead(rows, kv_heads, arena);
  if (rows.lent > 0) {
    out.received = arena->Take(DType::kF32, {2 * rows.lent, kv_heads});
  }
  return out;
}

PassActivations PassActivations::Take(const LlamaConfig& config, PassKind kind,
                                      const KeptInputs& inputs,
                                      const PassRows& rows,
                                      int64_t max_lora_rank, Arena* arena) {
  const int64_t tokens = rows.tokens;
  PassActivations out;
  out.kind = kind;
  const auto residual = [&] {
    return arena->Take(DType::kF32, {tokens, config.hidden_size});
  };
  out.ids = arena->Take(DType::kI32, {tokens});
  out.positions = arena->Take(DType::kI32, {tokens});
  out.labels = arena->Take(DType::kI32, {tokens});
  for (int64_t i = 0; i <= config.num_layers; ++i) {
    const bool reuse = kind == PassKind::kForward && i >= 2;
    out.residual.push_back(reuse ? out.residual[i - 2] : residual());
  }
  const int64_t kept = kind == PassKind::kKeep ? config.num_layers : 1;
  for (int64_t i = 0; i < kept; ++i) {
    out.layers.push_back(LayerActivations::Take(
        config, rows, inputs, i > 0 ? &out.layers[0] : nullptr, arena));
  }
  out.final_input = residual();
  out.final_inv_rms = arena->Take(DType::kF32, {tokens});
  if (max_lora_rank > 0) {
    out.lora.down = arena->Take(DType::kF32, {tokens, max_lora_rank});
  }
  if (kind == PassKind::kForward) {
    out.nll = arena->Take(DType::kF32, {tokens});
    return out;
  }
  if (max_lora_rank > 0) {
    out.lora.ddown = arena->Take(DType::kF32, {tokens, max_lora_rank});
  }
  out.backward = BackwardScratch::Take(config, rows, arena);
  return out;
}

}  // namespace sinklora::internal
