// Geometry of AttentionPattern: which contiguous key range and how many sinks a
// query sees. Pure functions.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_PATTERN_H_
#define SINKLORA_KERNELS_ATTENTION_PATTERN_H_

#include <algorithm>
#include <cstdint>

#include "kernels/attention/attention.h"

namespace sinklora::kernels {

// Positions [begin, end) local to the segment.
struct GroupRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// Group of local position `p` for shifted or un-shifted heads.
GroupRange GroupOf(const AttentionSegment& segment, bool shifted, int64_t p);

// Whether head `h` of `heads` is one of the last `pattern.shifted_heads`.
inline bool IsShifted(const AttentionPattern& pattern, int64_t heads,
                      int64_t h) {
  return h >= heads - pattern.shifted_heads;
}

// Sinks outside the group: keys [0, n) are visible beside the group's range.
inline int64_t OuterSinks(const AttentionPattern& pattern,
                          const GroupRange& group) {
  return pattern.sink_tokens < group.begin ? pattern.sink_tokens : group.begin;
}

// First key that local position `p` may see for the window.
inline int64_t WindowBegin(const AttentionPattern& pattern, int64_t p) {
  return pattern.window == 0 ? 0 : std::max<int64_t>(0, p - pattern.window + 1);
}

// Allowed (query, key) pairs of one head in one segment.
int64_t LivePairsOfHead(const AttentionPattern& pattern,
                        const AttentionSegment& segment, bool shifted);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_ATTENTION_PATTERN_H_
