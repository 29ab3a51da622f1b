// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/attention/dense_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sinklora::kernels {
namespace {

const AttentionSegment* SegmentOf(const AttentionPattern& pattern,
                                  int64_t token) {
  for (const AttentionSegment& s : pattern.segments) {
    if (token >= s.begin && token < s.begin + s.length) return &s;
  }
  return nullptr;
}

void AttendRow(const Cube& q, const Cube& k, const Cube& v, double scale,
               const std::vector<bool>& mask, int64_t h, int64_t i, Cube* out) {
  const int64_t kv = h * k.heads / q.heads;
  std::vector<double> weight(k.tokens, 0.0);
  double top = -std::numeric_limits<double>::infinity();
  for (int64_t j = 0; j < k.tokens; ++j) {
    if (!mask[j]) continue;
    double score = 0.0;
    for (int64_t d = 0; d < q.dim; ++d) score += q.at(i, h, d) * k.at(j, kv, d);
    weight[j] = score * scale;
    top = std::max(top, weight[j]);
  }
  double sum = 0.0;
  for (int64_t j = 0; j < k.tokens; ++j) {
    weight[j] = mask[j] ? std::exp(weight[j] - top) : 0.0;
    sum += weight[j];
  }
  if (sum == 0.0) return;
  for (int64_t j = 0; j < k.tokens; ++j) {
    for (int64_t d = 0; d < v.dim; ++d) {
      out->at(i, h, d) += weight[j] / sum * v.at(j, kv, d);
    }
  }
}

}  // namespace

Cube::Cube(const testing::HostTensor& x)
    : Cube(x.view().shape[0], x.view().shape[1], x.view().shape[2]) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t d = 0; d < dim; ++d) at(t, h, d) = x.Get(t, h, d);
    }
  }
}

bool Allowed(const AttentionPattern& pattern, int64_t heads, int64_t h,
             int64_t i, int64_t j) {
  const AttentionSegment* doc = SegmentOf(pattern, i);
  if (doc == nullptr || doc != SegmentOf(pattern, j) || j > i) return false;
  if (i - doc->begin < doc->lead) return false;
  if (pattern.window > 0 && i - j >= pattern.window) return false;
  if (j - doc->begin < pattern.sink_tokens) return true;
  const bool shifted = h >= heads - pattern.shifted_heads;
  const int64_t shift = shifted ? doc->group_size / 2 : 0;
  const auto group = [&](int64_t token) {
    return std::floor(
        static_cast<double>(token - doc->begin - doc->lead + shift) /
        static_cast<double>(doc->group_size));
  };
  return group(i) == group(j);
}

int64_t CountAllowed(const AttentionPattern& pattern, int64_t heads,
                     int64_t tokens) {
  int64_t count = 0;
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < tokens; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        count += Allowed(pattern, heads, h, i, j);
      }
    }
  }
  return count;
}

Cube DenseAttention(const Cube& q, const Cube& k, const Cube& v,
                    const AttentionPattern& pattern, double scale) {
  Cube out(q.tokens, q.heads, v.dim);
  for (int64_t h = 0; h < q.heads; ++h) {
    for (int64_t i = 0; i < q.tokens; ++i) {
      std::vector<bool> mask(k.tokens);
      for (int64_t j = 0; j < k.tokens; ++j) {
        mask[j] = Allowed(pattern, q.heads, h, i, j);
      }
      AttendRow(q, k, v, scale, mask, h, i, &out);
    }
  }
  return out;
}

}  // namespace sinklora::kernels
