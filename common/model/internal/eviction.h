// Which token of a cache goes. One rule covers every policy: the lowest score
// outside the sinks and the recent window goes first, ties by the older
// position. Without scores it is the oldest: sliding window, and with sinks
// StreamingLLM. Before all of them goes what a sliding-window layer will never
// see again.
//
// Source: H2O (2306.14048), StreamingLLM (2309.17453). Pure functions.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_EVICTION_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_EVICTION_H_

#include <cstdint>
#include <span>
#include <vector>

namespace sinklora::internal {

struct EvictionRule {
  int64_t sink_tokens = 0;    // positions [0, sink_tokens) stay
  int64_t recent_tokens = 0;  // and the last so many, the newest included
  int64_t window = 0;         // tokens a query of the layer sees; 0: all
};

// Slots of one kv head. positions[j] is -1 in an empty slot; scores are as
// many, or none.
struct CacheHead {
  std::span<const int32_t> positions;
  std::span<const float> scores;
};

// How far the sum of a head's scores may be from `grown` after it grew by that
// many queries and is `sum_after`. Every probability is added to an f32 score
// and may lose half a unit in its last place; beside a score of 100,000 that is
// more than 1e-3 of one query.
double ScoreTolerance(double grown, double sum_after);

// The `budget` slots that remain of a prompt whose newest position is `latest`
// after evicting one victim after the other, ascending. Fewer when the cache
// holds fewer. (A decoded token's victim: kernels/cache_decode.)
std::vector<int32_t> ChooseKept(const EvictionRule& rule, const CacheHead& head,
                                int64_t latest, int64_t budget);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_EVICTION_H_
