// A whole pass over the model: embedding, layers, loss, and back.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_PASS_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_PASS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/cancellation.h"
#include "common/model/internal/activations.h"
#include "common/model/internal/arena.h"
#include "common/model/internal/batch.h"
#include "common/model/internal/layer.h"
#include "common/model/internal/model_weights.h"

namespace sinklora::internal {

// Lays the pass out in `arena` (which may grow) and uploads the batch.
// `kept`: with kKeep, what stays of each layer.
absl::StatusOr<PassActivations> PreparePass(const Graph& graph, PassKind kind,
                                            const HostBatch& batch,
                                            int64_t max_lora_rank, Arena* arena,
                                            const KeptInputs& kept = {});
// Bytes PreparePass will ask of its arena.
int64_t PassBytes(const LlamaConfig& config, PassKind kind,
                  const PassRows& rows, int64_t max_lora_rank,
                  const KeptInputs& kept);

// Embedding and all layers. kCancelled when `cancellation` (may be null) is
// set; polled before every layer.
absl::Status ForwardPass(const Graph& graph, const ModelWeights& w,
                         const HostBatch& batch, const PassActivations& a,
                         const Cancellation* cancellation);
// Sum of the negative log-likelihoods of the labels, in nats. kForward fills
// a.nll; the other kinds scale the gradient by `loss_scale`, add the head's,
// and leave that of the last layer's output in a.backward.dresidual.
absl::StatusOr<double> LossPass(const Graph& graph, const ModelWeights& w,
                                const PassActivations& a, float loss_scale);
// All layers and the embedding, backwards. REQUIRES: ForwardPass and LossPass
// ran on `a`, not of kind kForward.
absl::Status BackwardPass(const Graph& graph, const ModelWeights& w,
                          const HostBatch& batch, const PassActivations& a);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_PASS_H_
