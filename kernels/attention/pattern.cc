// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/pattern.h"

#include <algorithm>

namespace sinklora::kernels {

GroupRange GroupOf(const AttentionSegment& segment, bool shifted, int64_t p) {
  const int64_t size = segment.group_size;
  const int64_t shift = shifted ? size / 2 : 0;
  const int64_t index = (p + shift) / size;
  return {std::max<int64_t>(0, index * size - shift),
          std::min(segment.length, (index + 1) * size - shift)};
}

int64_t LivePairsOfHead(const AttentionPattern& pattern,
                        const AttentionSegment& segment, bool shifted) {
  int64_t pairs = 0;
  for (int64_t p = 0; p < segment.length;) {
    const GroupRange group = GroupOf(segment, shifted, p);
    const int64_t n = group.end - group.begin;
    pairs += n * (n + 1) / 2 + n * OuterSinks(pattern, group);
    p = group.end;
  }
  return pairs;
}

int64_t LivePairs(const AttentionPattern& pattern, int64_t heads) {
  const int64_t shifted = std::min(pattern.shifted_heads, heads);
  int64_t pairs = 0;
  for (const AttentionSegment& segment : pattern.segments) {
    pairs += (heads - shifted) * LivePairsOfHead(pattern, segment, false) +
             shifted * LivePairsOfHead(pattern, segment, true);
  }
  return pairs;
}

}  // namespace sinklora::kernels
