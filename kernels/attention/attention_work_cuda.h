// How CUDA attention cuts its work: one block a query tile and head for outputs
// and query gradients, one block a key tile and kv head for key and value
// gradients. Pure functions on the host; the lists are copied to the device.
//
// A query tile lies in one group. It sees the sinks before the group and one
// contiguous range of keys. A key tile lies in one group of the un-shifted and
// one of the shifted heads and is all sinks or none, so that one contiguous
// range of queries sees it, or none of a kind of heads (a range of 0, in a
// segment's lead). All queries after them see the sinks: those ranges
// are cut in chunks whose partial sums are added in their order.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_WORK_CUDA_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_WORK_CUDA_H_

#include <cstdint>
#include <vector>

#include "kernels/attention/attention.h"

namespace sinklora::kernels::cuda {

// Positions are local to the segment; `token` is where that begins.
struct QueryWork {
  int32_t token = 0;
  int32_t begin = 0;  // first query
  int32_t rows = 0;
  int32_t sink_begin = 0, sink_end = 0;  // keys before the group
  int32_t key_begin = 0;                 // and from here to the last query
};

struct KeyWork {
  int32_t token = 0;
  int32_t begin = 0;  // first key
  int32_t rows = 0;
  int32_t query_begin = 0;
  int32_t query_end[2] = {0, 0};  // of un-shifted and shifted heads
  int32_t partial = -1;           // where its sums go; -1: they are the result
};

// Partial sums of a tile of sinks.
struct SinkWork {
  int32_t token = 0;
  int32_t begin = 0;
  int32_t rows = 0;
  int32_t first_partial = 0;
  int32_t partials = 0;
};

// Tokens that no segment covers, or that have no query.
struct Gap {
  int32_t begin = 0;
  int32_t end = 0;
};

// The un-shifted heads' tiles, then the shifted heads', those with most work
// first. A kind without heads has none.
struct QueryPlan {
  std::vector<QueryWork> tiles;
  int plain_tiles = 0;  // of un-shifted heads
};
QueryPlan PlanQueries(const AttentionPattern& pattern, int64_t heads,
                      int64_t tile_rows);

struct KeyPlan {
  std::vector<KeyWork> tiles;  // most work first
  std::vector<SinkWork> sinks;
  int partials = 0;
};
KeyPlan PlanKeys(const AttentionPattern& pattern, int64_t heads,
                 int64_t tile_rows);

// With `leads`, those of segments too.
std::vector<Gap> Gaps(const AttentionPattern& pattern, int64_t tokens,
                      bool leads);

// `pattern.window`, or a number that leaves nothing out.
int32_t WindowOf(const AttentionPattern& pattern);

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_WORK_CUDA_H_
