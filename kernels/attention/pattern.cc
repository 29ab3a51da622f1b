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

namespace {

// Sum of max(0, first - i) for i in [0, n).
int64_t FallingSum(int64_t first, int64_t n) {
  const int64_t terms = std::clamp<int64_t>(first, 0, n);
  return terms * first - terms * (terms - 1) / 2;
}

// What the window takes from the pairs of a group.
int64_t PairsOutsideWindow(const AttentionPattern& pattern,
                           const GroupRange& group) {
  if (pattern.window == 0) return 0;
  const int64_t n = group.end - group.begin;
  // Query i of the group loses max(0, i + 1 - window) keys of it: the same sum
  // from the other end.
  const int64_t inner = FallingSum(n - pattern.window, n);
  // And the sinks before it, as many as there are: the last query of the group
  // loses max(0, end - window), the one before it one less.
  const int64_t last = group.end - pattern.window;
  const int64_t sinks = OuterSinks(pattern, group);
  return inner + FallingSum(last, n) - FallingSum(last - sinks, n);
}

}  // namespace

int64_t LivePairsOfHead(const AttentionPattern& pattern,
                        const AttentionSegment& segment, bool shifted) {
  int64_t pairs = 0;
  for (int64_t p = 0; p < segment.length;) {
    const GroupRange group = GroupOf(segment, shifted, p);
    const int64_t n = group.end - group.begin;
    pairs += n * (n + 1) / 2 + n * OuterSinks(pattern, group) -
             PairsOutsideWindow(pattern, group);
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
