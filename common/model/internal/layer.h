// One Llama layer, forward and backward. Attention itself is left to the caller
// between the two halves of the forward pass: training attends inside the
// batch, serving over a cache; everything else is the same code.
//
// Source: Llama (2302.13971), as in Hugging Face's LlamaDecoderLayer.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_LAYER_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_LAYER_H_

#include "absl/status/status.h"
#include "common/model/internal/activations.h"
#include "common/model/internal/context_exchange.h"
#include "common/model/internal/linear.h"
#include "common/model/internal/model_weights.h"
#include "common/model/internal/rope_table.h"
#include "common/weights/llama_config.h"
#include "kernels/backend.h"

namespace sinklora::internal {

// What every function of the graph needs. Borrows what it points to.
struct Graph {
  kernels::Backend* backend = nullptr;
  const LlamaConfig* config = nullptr;
  const RopeTable* rope = nullptr;
  // Operands of training attention's products.
  kernels::DType product_dtype = kernels::DType::kF32;
  // Training a part of a batch: to the ranks that have the others. Else null.
  const ContextLink* context = nullptr;
  // With packed matrices, see Multiply.
  kernels::DType packed_products = kernels::DType::kF32;
};

float AttentionScale(const LlamaConfig& config);
// [tokens, n * head_dim] seen as [tokens, n, head_dim].
kernels::TensorView SplitHeads(const kernels::TensorView& x, int64_t head_dim);
// And as one row a head, [tokens * n, head_dim].
kernels::TensorView HeadRows(const kernels::TensorView& x, int64_t head_dim);

// x [tokens, hidden] -> a.attention_input, q, k (normed where the architecture
// has it, and rotated), v.
absl::Status ForwardQkv(const Graph& graph, const LayerWeights& w,
                        const kernels::ConstTensorView& x,
                        const kernels::ConstTensorView& positions,
                        const LoraScratch& lora, const LayerActivations& a);
// a.attention -> a.middle .. a.product -> `out` = the layer's output. `out` may
// be empty when only the activations are wanted.
absl::Status ForwardMlp(const Graph& graph, const LayerWeights& w,
                        const kernels::ConstTensorView& x,
                        const LoraScratch& lora, const LayerActivations& a,
                        const kernels::TensorView& out);

// Training: the two halves with patterned attention between them. Of a part of
// a batch, all of its ranks make the same calls.
absl::Status LayerForward(const Graph& graph, const LayerWeights& w,
                          const kernels::AttentionPattern& pattern,
                          const kernels::ConstTensorView& x,
                          const kernels::ConstTensorView& positions,
                          const LoraScratch& lora, const LayerActivations& a,
                          const kernels::TensorView& out);

// s.dresidual holds the gradient of the layer's output and is turned into that
// of its input. Uses `a` as scratch: afterwards the activations are spent.
absl::Status LayerBackward(const Graph& graph, const LayerWeights& w,
                           const kernels::AttentionPattern& pattern,
                           const kernels::ConstTensorView& x,
                           const kernels::ConstTensorView& positions,
                           const LoraScratch& lora, const LayerActivations& a,
                           const BackwardScratch& s);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_LAYER_H_
