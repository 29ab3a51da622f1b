// How a batch is cut over ranks that train it together: each takes tokens that
// follow each other. A document may be cut between groups of its un-shifted
// heads; of the tokens before the cut, the part behind it then sees in
// attention only the document's sinks and, in shifted heads, the last half
// group, its halo. So a rank computes the very pairs of its tokens from its own
// keys and values and these.
//
// Source: algorithms of SinkLoRA section 1, "Context parallel". Pure functions.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_CONTEXT_SHARD_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_CONTEXT_SHARD_H_

#include <cstdint>
#include <vector>

#include "common/model/internal/batch.h"
#include "kernels/attention/attention.h"

namespace sinklora::internal {

// One rank's part: tokens [begin, end) of the batch, maybe none. Rows of its
// keys and values are counted from the first one of the lead: what it reads of
// other ranks, which lies before its own.
struct ContextShard {
  struct Rows {
    int place = 0;  // of the other rank among those that share the batch
    int64_t begin = 0, count = 0;
  };

  int64_t begin = 0, end = 0;
  int64_t lead = 0;
  std::vector<Rows> reads;  // of the lead, and whose they are
  // Own rows that others read, places ascending; to one of them in the order in
  // which it reads them.
  std::vector<Rows> lends;

  int64_t tokens() const { return end - begin; }
  int64_t lent_rows() const;
};

// Shards of `size` ranks, whose lengths differ as little as the groups allow: a
// cut lies at most half a group from where equal parts would have it. Documents
// of one group, and those whose sinks are more than half a group, are not cut.
// REQUIRES: the segments cover `tokens` tokens; no window with sinks.
std::vector<ContextShard> CutBatch(const kernels::AttentionPattern& pattern,
                                   int64_t tokens, int size);

// The shard's part of the batch. Tokens keep their labels and positions.
HostBatch TakeShard(const HostBatch& batch, const ContextShard& shard);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_CONTEXT_SHARD_H_
