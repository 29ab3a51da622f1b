// SPDX-License-Identifier: Apache-2.0
#include "common/base/status.h"
#include "common/model/internal/layer.h"

namespace sinklora::internal {
namespace {

using kernels::ConstTensorView;
using kernels::TensorView;

// Gradient of a norm's input, added to the residual stream's.
absl::Status NormBackward(const Graph& graph, const NormWeights& w,
                          const ConstTensorView& x,
                          const ConstTensorView& inv_rms,
                          const BackwardScratch& s) {
  return ToAbsl(graph.backend->RmsNormBackward({.dout = s.dhidden,
                                                .x = x,
                                                .weight = w.weight,
                                                .inv_rms = inv_rms,
                                                .dx = s.dresidual,
                                                .accumulate_dx = true,
                                                .dweight = w.dweight}));
}

// dproduct, dgate and dup replace product, gate and up in place.
absl::Status MlpBackward(const Graph& graph, const LayerWeights& w,
                         const LoraScratch& lora, const LayerActivations& a,
                         const BackwardScratch& s) {
  kernels::Backend* backend = graph.backend;
  SL_RETURN_IF_ERROR(
      LinearBackward(backend, w.down, lora,
                     {.x = a.product, .dout = s.dresidual, .dx = a.product}));
  SL_RETURN_IF_KERNEL_ERROR(backend->SwiGluBackward({.dout = a.product,
                                                     .gate = a.gate,
                                                     .up = a.up,
                                                     .dgate = a.gate,
                                                     .dup = a.up}));
  SL_RETURN_IF_ERROR(
      LinearBackward(backend, w.gate, lora,
                     {.x = a.mlp_input, .dout = a.gate, .dx = s.dhidden}));
  SL_RETURN_IF_ERROR(LinearBackward(backend, w.up, lora,
                                    {.x = a.mlp_input,
                                     .dout = a.up,
                                     .dx = s.dhidden,
                                     .accumulate_dx = true}));
  return NormBackward(graph, w.mlp_norm, a.middle, a.mlp_inv_rms, s);
}

absl::Status AttentionBackward(const Graph& graph,
                               const kernels::AttentionPattern& pattern,
                               const ConstTensorView& positions,
                               const LayerActivations& a,
                               const BackwardScratch& s) {
  const int64_t head_dim = graph.config->head_dim;
  const auto heads = [&](const TensorView& x) {
    return SplitHeads(WithLead(x, a.lead), head_dim);
  };
  SL_RETURN_IF_KERNEL_ERROR(
      graph.backend->AttentionBackward({.dout = heads(s.dattention),
                                        .q = heads(a.q),
                                        .k = heads(a.k),
                                        .v = heads(a.v),
                                        .out = heads(a.attention),
                                        .lse = a.lse,
                                        .pattern = &pattern,
                                        .scale = AttentionScale(*graph.config),
                                        .dq = heads(s.dq),
                                        .dk = heads(s.dk),
                                        .dv = heads(s.dv),
                                        .product_dtype = graph.product_dtype}));
  // Before the rotation is taken back: others rotated these keys alike.
  if (graph.context != nullptr) {
    SL_RETURN_IF_ERROR(ExchangeKeyGradients(
        *graph.context, graph.backend, WithLead(s.dk, a.lead),
        WithLead(s.dv, a.lead), s.received));
  }
  for (const TensorView* rotated : {&s.dq, &s.dk}) {
    SL_RETURN_IF_KERNEL_ERROR(
        graph.backend->Rope({.x = SplitHeads(*rotated, head_dim),
                             .positions = positions,
                             .cos = graph.rope->cos.view(),
                             .sin = graph.rope->sin.view(),
                             .inverse = true}));
  }
  return absl::OkStatus();
}

// Gradient of what the norm of the heads was given, `raw`, from that of its
// output.
absl::Status HeadNormBackward(const Graph& graph, const NormWeights& w,
                              const TensorView& dout, const TensorView& raw,
                              const TensorView& inv_rms, const TensorView& dx) {
  const int64_t dim = graph.config->head_dim;
  return ToAbsl(graph.backend->RmsNormBackward({.dout = HeadRows(dout, dim),
                                                .x = HeadRows(raw, dim),
                                                .weight = w.weight,
                                                .inv_rms = inv_rms,
                                                .dx = HeadRows(dx, dim),
                                                .dweight = w.dweight}));
}

}  // namespace

absl::Status LayerBackward(const Graph& graph, const LayerWeights& w,
                           const kernels::AttentionPattern& pattern,
                           const ConstTensorView& x,
                           const ConstTensorView& positions,
                           const LoraScratch& lora, const LayerActivations& a,
                           const BackwardScratch& s) {
  kernels::Backend* backend = graph.backend;
  SL_RETURN_IF_ERROR(MlpBackward(graph, w, lora, a, s));
  SL_RETURN_IF_ERROR(LinearBackward(
      backend, w.o, lora,
      {.x = a.attention, .dout = s.dresidual, .dx = s.dattention}));
  SL_RETURN_IF_ERROR(AttentionBackward(graph, pattern, positions, a, s));
  TensorView dq = s.dq, dk = s.dk;
  if (graph.config->qk_norm) {
    dq = a.q;  // spent since attention's backward pass
    dk = a.k;
    SL_RETURN_IF_ERROR(
        HeadNormBackward(graph, w.q_norm, s.dq, a.q_raw, a.q_inv_rms, dq));
    SL_RETURN_IF_ERROR(
        HeadNormBackward(graph, w.k_norm, s.dk, a.k_raw, a.k_inv_rms, dk));
  }
  SL_RETURN_IF_ERROR(
      LinearBackward(backend, w.q, lora,
                     {.x = a.attention_input, .dout = dq, .dx = s.dhidden}));
  SL_RETURN_IF_ERROR(LinearBackward(backend, w.k, lora,
                                    {.x = a.attention_input,
                                     .dout = dk,
                                     .dx = s.dhidden,
                                     .accumulate_dx = true}));
  SL_RETURN_IF_ERROR(LinearBackward(backend, w.v, lora,
                                    {.x = a.attention_input,
                                     .dout = s.dv,
                                     .dx = s.dhidden,
                                     .accumulate_dx = true}));
  return NormBackward(graph, w.attention_norm, x, a.attention_inv_rms, s);
}

}  // namespace sinklora::internal
