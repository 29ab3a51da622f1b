// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/pattern.h"

#include <algorithm>

namespace sinklora::kernels {
namespace {

// a - b * floor(a / b), of b > 0.
int64_t FloorModulo(int64_t a, int64_t b) {
  const int64_t rest = a % b;
  return rest < 0 ? rest + b : rest;
}

// Sum of max(0, first - i) for i in [0, n).
int64_t FallingSum(int64_t first, int64_t n) {
  const int64_t terms = std::clamp<int64_t>(first, 0, n);
  return terms * first - terms * (terms - 1) / 2;
}

}  // namespace

GroupRange GroupOf(const AttentionSegment& segment, bool shifted, int64_t p) {
  const int64_t size = segment.group_size;
  // Where a group begins.
  const int64_t start = segment.lead - (shifted ? size / 2 : 0);
  const int64_t after = p - start;
  const int64_t begin = start + (after - FloorModulo(after, size));
  return {std::max<int64_t>(0, begin), std::min(segment.length, begin + size)};
}

namespace {

// What the window takes from the pairs of a group's last `n` tokens, its
// queries.
int64_t PairsOutsideWindow(const AttentionPattern& pattern,
                           const GroupRange& group, int64_t n) {
  if (pattern.window == 0) return 0;
  // The i-th token of the group loses max(0, i + 1 - window) keys of it: the
  // same sum from the other end.
  const int64_t inner = FallingSum(group.end - group.begin - pattern.window, n);
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
  for (int64_t p = segment.lead; p < segment.length;) {
    const GroupRange group = GroupOf(segment, shifted, p);
    const int64_t n = group.end - p;  // queries
    const int64_t before = p - group.begin + OuterSinks(pattern, group);
    pairs +=
        n * (n + 1) / 2 + n * before - PairsOutsideWindow(pattern, group, n);
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
