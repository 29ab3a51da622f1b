// What ranks that train a batch together tell each other in a layer: keys and
// values of the tokens that others see, and back the gradients of these. O(G)
// rows a rank, whatever the length of the batch.
//
// Waits for what it exchanges: only Collective::Wait() sees that another rank
// has failed, so nothing that this device waits for later may hang on it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_CONTEXT_EXCHANGE_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_CONTEXT_EXCHANGE_H_

#include "absl/status/status.h"
#include "common/model/internal/context_shard.h"
#include "kernels/backend.h"

namespace sinklora::internal {

// A rank's end of it. Borrows both. The place of a rank that shares the batch
// is its own rank less `first_rank`.
struct ContextLink {
  kernels::Collective* collective = nullptr;
  const ContextShard* shard = nullptr;
  int first_rank = 0;
};

// Fills the lead of `k` and `v`, [lead + tokens, kv_heads * head_dim], from the
// ranks whose rows they are, and gives the others what they read.
absl::Status ExchangeKeys(const ContextLink& link, const kernels::TensorView& k,
                          const kernels::TensorView& v);

// Adds to the own rows of `dk` and `dv` the gradients that other ranks have for
// them, in the order of the ranks, and gives the others those of the lead.
// `received`: [2 * lent_rows, kv_heads * head_dim], overwritten.
absl::Status ExchangeKeyGradients(const ContextLink& link,
                                  kernels::Backend* backend,
                                  const kernels::TensorView& dk,
                                  const kernels::TensorView& dv,
                                  const kernels::TensorView& received);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_CONTEXT_EXCHANGE_H_
