// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/pass.h"

#include "common/base/status.h"
#include "common/model/internal/device_tensor.h"

namespace sinklora::internal {
namespace {

// Gradient of the last layer's output, from that of the final norm's output.
absl::Status FinalNormBackward(const Graph& graph, const ModelWeights& w,
                               const PassActivations& a) {
  return ToAbsl(
      graph.backend->RmsNormBackward({.dout = a.backward.dhidden,
                                      .x = a.residual.back(),
                                      .weight = w.final_norm.weight,
                                      .inv_rms = a.final_inv_rms,
                                      .dx = a.backward.dresidual,
                                      .accumulate_dx = false,
                                      .dweight = w.final_norm.dweight}));
}

// The batch's pattern as each layer sees it.
class LayerPatterns {
 public:
  LayerPatterns(const LlamaConfig& config, const HostBatch& batch)
      : config_(config), full_(batch.pattern), sliding_(batch.pattern) {
    sliding_.window = config.sliding_window;
  }
  const kernels::AttentionPattern& of(int64_t layer) const {
    return config_.window(layer) > 0 ? sliding_ : full_;
  }

 private:
  const LlamaConfig& config_;
  const kernels::AttentionPattern& full_;
  kernels::AttentionPattern sliding_;
};

}  // namespace

int64_t PassBytes(const LlamaConfig& config, PassKind kind,
                  const PassRows& rows, int64_t max_lora_rank,
                  const KeptInputs& kept) {
  Arena measuring;
  PassActivations::Take(config, kind, kept, rows, max_lora_rank, &measuring);
  return measuring.used_bytes();
}

absl::StatusOr<PassActivations> PreparePass(const Graph& graph, PassKind kind,
                                            const HostBatch& batch,
                                            int64_t max_lora_rank, Arena* arena,
                                            const KeptInputs& kept) {
  const PassRows rows{batch.tokens(), batch.lead_rows, batch.lent_rows};
  SL_RETURN_IF_ERROR(arena->Reserve(
      graph.backend,
      PassBytes(*graph.config, kind, rows, max_lora_rank, kept)));
  PassActivations a = PassActivations::Take(*graph.config, kind, kept, rows,
                                            max_lora_rank, arena);
  SL_RETURN_IF_ERROR(Upload(graph.backend, batch.ids, a.ids));
  SL_RETURN_IF_ERROR(Upload(graph.backend, batch.positions, a.positions));
  SL_RETURN_IF_ERROR(Upload(graph.backend, batch.labels, a.labels));
  return a;
}

absl::Status ForwardPass(const Graph& graph, const ModelWeights& w,
                         const HostBatch& batch, const PassActivations& a,
                         const Cancellation* cancellation) {
  SL_RETURN_IF_ERROR(
      LookUpRows(graph.backend, w.embedding, a.ids, a.residual[0]));
  const LayerPatterns patterns(*graph.config, batch);
  for (int64_t i = 0; i < graph.config->num_layers; ++i) {
    if (cancellation != nullptr && cancellation->cancelled()) {
      return absl::CancelledError("cancelled between layers");
    }
    SL_RETURN_IF_ERROR(LayerForward(graph, w.layers[i], patterns.of(i),
                                    a.residual[i], a.positions, a.lora,
                                    a.layer(i), a.residual[i + 1]));
  }
  return absl::OkStatus();
}

absl::StatusOr<double> LossPass(const Graph& graph, const ModelWeights& w,
                                const PassActivations& a, float loss_scale) {
  const bool backward = a.kind != PassKind::kForward;
  SL_RETURN_IF_KERNEL_ERROR(graph.backend->RmsNormForward(
      {.x = a.residual.back(),
       .weight = w.final_norm.weight,
       .eps = static_cast<float>(graph.config->rms_norm_eps),
       .out = a.final_input,
       .inv_rms = a.final_inv_rms}));
  double nll_sum = 0;
  int64_t supervised_tokens = 0;
  kernels::LinearCrossEntropyParams p;
  p.hidden = a.final_input;
  p.weight = w.head.dense;
  p.quantized_weight = w.head.quantized;
  p.products = graph.packed_products;
  p.labels = a.labels;
  p.loss_scale = loss_scale;
  p.nll = a.nll;
  if (backward) {
    p.dhidden = a.backward.dhidden;
    p.dweight = w.dhead;
  }
  p.nll_sum = &nll_sum;
  p.supervised_tokens = &supervised_tokens;
  SL_RETURN_IF_KERNEL_ERROR(graph.backend->LinearCrossEntropy(p));
  if (backward) SL_RETURN_IF_ERROR(FinalNormBackward(graph, w, a));
  return nll_sum;
}

absl::Status BackwardPass(const Graph& graph, const ModelWeights& w,
                          const HostBatch& batch, const PassActivations& a) {
  const LayerPatterns patterns(*graph.config, batch);
  const int64_t last = graph.config->num_layers - 1;
  for (int64_t i = last; i >= 0; --i) {
    const LayerActivations& layer = a.layer(i);
    // The last layer's activations are still there from the forward pass.
    if (a.kind == PassKind::kRecompute && i != last) {
      SL_RETURN_IF_ERROR(LayerForward(graph, w.layers[i], patterns.of(i),
                                      a.residual[i], a.positions, a.lora, layer,
                                      kernels::TensorView()));
    }
    SL_RETURN_IF_ERROR(LayerBackward(graph, w.layers[i], patterns.of(i),
                                     a.residual[i], a.positions, a.lora, layer,
                                     a.backward));
  }
  if (w.dembedding.empty()) return absl::OkStatus();
  return ToAbsl(graph.backend->EmbeddingBackward(
      {.ids = a.ids, .dout = a.backward.dresidual, .dtable = w.dembedding}));
}

}  // namespace sinklora::internal
