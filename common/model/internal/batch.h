// Examples turned into what a pass over the model needs.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_BATCH_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_BATCH_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/model/options.h"
#include "common/model/training_run.h"
#include "kernels/attention/attention.h"

namespace sinklora::internal {

// Examples one after the other. Plain value.
struct HostBatch {
  std::vector<int32_t> ids;
  // Row of the RoPE table: the position in the document, unless
  // RopeTables::ForDocuments says otherwise.
  std::vector<int32_t> positions;
  std::vector<int32_t>
      labels;  // the next token of the document where it is supervised, else -1
  kernels::AttentionPattern pattern;  // one segment a document
  int64_t supervised_tokens = 0;
  // Of a part of a batch (context_shard.h), whose pattern counts the lead too:
  // rows of keys and values from before its tokens, and how many of its own
  // other ranks read.
  int64_t lead_rows = 0;
  int64_t lent_rows = 0;

  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
  std::vector<int64_t> document_tokens() const;  // of a whole batch
};

// REQUIRES: every example passed CheckExample.
HostBatch BuildBatch(std::span<const TrainingExample> examples,
                     const AttentionOptions& options, int64_t num_heads);

// Sinks of the pattern: 0 for the patterns without.
int64_t SinkTokens(const AttentionOptions& options);

// Labels an example has: supervised tokens that are not the first of their
// document.
int64_t SupervisedTokens(const TrainingExample& example);

// kInvalidArgument naming the example by `index`.
absl::Status CheckExample(const TrainingExample& example, int64_t index,
                          int64_t vocab_size, int64_t context_tokens);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_BATCH_H_
