// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention_zero.h"

#include <cstring>

#include "kernels/cpu/rows.h"

namespace sinklora::kernels::cpu {
namespace {

// Calls body(begin, end) for each run of tokens without queries.
template <typename Body>
void ForEachGap(const AttentionPattern& pattern, int64_t tokens, Body body) {
  int64_t at = 0;
  for (const AttentionSegment& segment : pattern.segments) {
    const int64_t begin = segment.begin + segment.lead;
    if (begin > at) body(at, begin);
    at = segment.begin + segment.length;
  }
  if (tokens > at) body(at, tokens);
}

}  // namespace

void ZeroTokens(const TensorView& x, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t h = 0; h < x.shape[1]; ++h) {
      std::memset(At(x, t, h), 0, x.shape[2] * sizeof(float));
    }
  }
}

void ZeroOutside(const AttentionPattern& pattern, const TensorView& x) {
  ForEachGap(pattern, x.shape[0],
             [&](int64_t begin, int64_t end) { ZeroTokens(x, begin, end); });
}

void ZeroLseOutside(const AttentionPattern& pattern, const TensorView& lse) {
  for (int64_t h = 0; h < lse.shape[0]; ++h) {
    ForEachGap(pattern, lse.shape[1], [&](int64_t begin, int64_t end) {
      std::memset(At(lse, h, begin), 0, (end - begin) * sizeof(float));
    });
  }
}

}  // namespace sinklora::kernels::cpu
