// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "common/base/status.h"
#include "common/model/internal/layer.h"

namespace sinklora::internal {
namespace {

using kernels::ConstTensorView;
using kernels::TensorView;

absl::Status Rotate(const Graph& graph, const TensorView& x,
                    const ConstTensorView& positions) {
  return ToAbsl(graph.backend->Rope({.x = SplitHeads(x, graph.config->head_dim),
                                     .positions = positions,
                                     .cos = graph.rope->cos.view(),
                                     .sin = graph.rope->sin.view()}));
}

absl::Status Norm(const Graph& graph, const NormWeights& w,
                  const ConstTensorView& x, const TensorView& out,
                  const TensorView& inv_rms) {
  return ToAbsl(graph.backend->RmsNormForward(
      {.x = x,
       .weight = w.weight,
       .eps = static_cast<float>(graph.config->rms_norm_eps),
       .out = out,
       .inv_rms = inv_rms}));
}

}  // namespace

float AttentionScale(const LlamaConfig& config) {
  return static_cast<float>(1.0 /
                            std::sqrt(static_cast<double>(config.head_dim)));
}

TensorView SplitHeads(const TensorView& x, int64_t head_dim) {
  return TensorView(x.data, x.dtype,
                    {x.shape[0], x.shape[1] / head_dim, head_dim});
}

TensorView HeadRows(const TensorView& x, int64_t head_dim) {
  return TensorView(x.data, x.dtype,
                    {x.shape[0] * x.shape[1] / head_dim, head_dim});
}

absl::Status ForwardQkv(const Graph& graph, const LayerWeights& w,
                        const ConstTensorView& x,
                        const ConstTensorView& positions,
                        const LoraScratch& lora, const LayerActivations& a) {
  SL_RETURN_IF_ERROR(
      Norm(graph, w.attention_norm, x, a.attention_input, a.attention_inv_rms));
  const bool norm = graph.config->qk_norm;
  const auto linear = [&](const LinearWeights& weights, const TensorView& out) {
    return LinearForward(graph.backend, weights, a.attention_input, lora,
                         graph.packed_products, out);
  };
  SL_RETURN_IF_ERROR(linear(w.q, norm ? a.q_raw : a.q));
  SL_RETURN_IF_ERROR(linear(w.k, norm ? a.k_raw : a.k));
  SL_RETURN_IF_ERROR(linear(w.v, a.v));
  if (norm) {
    const int64_t dim = graph.config->head_dim;
    SL_RETURN_IF_ERROR(Norm(graph, w.q_norm, HeadRows(a.q_raw, dim),
                            HeadRows(a.q, dim), a.q_inv_rms));
    SL_RETURN_IF_ERROR(Norm(graph, w.k_norm, HeadRows(a.k_raw, dim),
                            HeadRows(a.k, dim), a.k_inv_rms));
  }
  SL_RETURN_IF_ERROR(Rotate(graph, a.q, positions));
  return Rotate(graph, a.k, positions);
}

absl::Status ForwardMlp(const Graph& graph, const LayerWeights& w,
                        const ConstTensorView& x, const LoraScratch& lora,
                        const LayerActivations& a, const TensorView& out) {
  kernels::Backend* backend = graph.backend;
  const auto linear = [&](const LinearWeights& weights, const TensorView& input,
                          const TensorView& output) {
    return LinearForward(backend, weights, input, lora, graph.packed_products,
                         output);
  };
  SL_RETURN_IF_ERROR(linear(w.o, a.attention, a.middle));
  SL_RETURN_IF_KERNEL_ERROR(backend->Add({.x = x, .out = a.middle}));
  SL_RETURN_IF_ERROR(
      Norm(graph, w.mlp_norm, a.middle, a.mlp_input, a.mlp_inv_rms));
  SL_RETURN_IF_ERROR(linear(w.gate, a.mlp_input, a.gate));
  SL_RETURN_IF_ERROR(linear(w.up, a.mlp_input, a.up));
  SL_RETURN_IF_KERNEL_ERROR(
      backend->SwiGluForward({.gate = a.gate, .up = a.up, .out = a.product}));
  if (out.empty()) return absl::OkStatus();
  SL_RETURN_IF_ERROR(linear(w.down, a.product, out));
  return ToAbsl(backend->Add({.x = a.middle, .out = out}));
}

absl::Status LayerForward(const Graph& graph, const LayerWeights& w,
                          const kernels::AttentionPattern& pattern,
                          const ConstTensorView& x,
                          const ConstTensorView& positions,
                          const LoraScratch& lora, const LayerActivations& a,
                          const TensorView& out) {
  SL_RETURN_IF_ERROR(ForwardQkv(graph, w, x, positions, lora, a));
  const TensorView k = WithLead(a.k, a.lead);
  const TensorView v = WithLead(a.v, a.lead);
  if (graph.context != nullptr) {
    SL_RETURN_IF_ERROR(ExchangeKeys(*graph.context, k, v));
  }
  const int64_t head_dim = graph.config->head_dim;
  SL_RETURN_IF_KERNEL_ERROR(graph.backend->AttentionForward(
      {.q = SplitHeads(WithLead(a.q, a.lead), head_dim),
       .k = SplitHeads(k, head_dim),
       .v = SplitHeads(v, head_dim),
       .pattern = &pattern,
       .scale = AttentionScale(*graph.config),
       .out = SplitHeads(WithLead(a.attention, a.lead), head_dim),
       .lse = a.lse,
       .product_dtype = graph.product_dtype}));
  return ForwardMlp(graph, w, x, lora, a, out);
}

}  // namespace sinklora::internal
