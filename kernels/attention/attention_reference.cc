// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/pattern.h"
#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {
namespace {

// Keys local position `i` attends to, ascending.
std::vector<int64_t> VisibleKeys(const AttentionPattern& pattern,
                                 const AttentionSegment& segment, bool shifted,
                                 int64_t i) {
  const GroupRange group = GroupOf(segment, shifted, i);
  std::vector<int64_t> keys;
  for (int64_t j = WindowBegin(pattern, i); j <= i; ++j) {
    if (j < pattern.sink_tokens || j >= group.begin) keys.push_back(j);
  }
  return keys;
}

double Dot(const ConstTensorView& a, int64_t ta, int64_t ha,
           const ConstTensorView& b, int64_t tb, int64_t hb) {
  double sum = 0.0;
  for (int64_t d = 0; d < a.shape[2]; ++d) {
    sum += Load(a, ta, ha, d) * Load(b, tb, hb, d);
  }
  return sum;
}

void ZeroAll(const TensorView& x) {
  for (int64_t i = 0; i < x.shape[0]; ++i) {
    for (int64_t j = 0; j < x.shape[1]; ++j) {
      for (int64_t k = 0; k < x.shape[2]; ++k) Store(x, 0.0, i, j, k);
    }
  }
}

void ForwardRow(const AttentionForwardParams& p,
                const AttentionSegment& segment, int64_t h, int64_t i) {
  const int64_t kv = h * p.k.shape[1] / p.q.shape[1];
  const bool shifted = IsShifted(*p.pattern, p.q.shape[1], h);
  const auto keys = VisibleKeys(*p.pattern, segment, shifted, i);
  std::vector<double> score(keys.size());
  double top = -std::numeric_limits<double>::infinity();
  for (size_t n = 0; n < keys.size(); ++n) {
    score[n] = p.scale *
               Dot(p.q, segment.begin + i, h, p.k, segment.begin + keys[n], kv);
    top = std::max(top, score[n]);
  }
  double sum = 0.0;
  for (double& s : score) {
    s = std::exp(s - top);
    sum += s;
  }
  for (int64_t d = 0; d < p.q.shape[2]; ++d) {
    double out = 0.0;
    for (size_t n = 0; n < keys.size(); ++n) {
      out += score[n] * Load(p.v, segment.begin + keys[n], kv, d);
    }
    Store(p.out, out / sum, segment.begin + i, h, d);
  }
  if (!p.lse.empty()) {
    Store(p.lse, top + std::log(sum), h, segment.begin + i);
  }
}

// Gradients in double until every query has been added.
struct KeyGradients {
  std::vector<double> dk;  // [tokens, kv_heads, head_dim]
  std::vector<double> dv;
};

void BackwardRow(const AttentionBackwardParams& p,
                 const AttentionSegment& segment, int64_t h, int64_t i,
                 KeyGradients* sums) {
  const int64_t kv_heads = p.k.shape[1];
  const int64_t dim = p.q.shape[2];
  const int64_t kv = h * kv_heads / p.q.shape[1];
  const bool shifted = IsShifted(*p.pattern, p.q.shape[1], h);
  const int64_t t = segment.begin + i;
  const double delta = Dot(p.dout, t, h, p.out, t, h);
  std::vector<double> dq(dim, 0.0);
  for (int64_t j : VisibleKeys(*p.pattern, segment, shifted, i)) {
    const int64_t key = segment.begin + j;
    const double probability =
        std::exp(p.scale * Dot(p.q, t, h, p.k, key, kv) - Load(p.lse, h, t));
    const double dscore =
        probability * (Dot(p.dout, t, h, p.v, key, kv) - delta) * p.scale;
    const int64_t at = (key * kv_heads + kv) * dim;
    for (int64_t d = 0; d < dim; ++d) {
      dq[d] += dscore * Load(p.k, key, kv, d);
      sums->dk[at + d] += dscore * Load(p.q, t, h, d);
      sums->dv[at + d] += probability * Load(p.dout, t, h, d);
    }
  }
  for (int64_t d = 0; d < dim; ++d) Store(p.dq, dq[d], t, h, d);
}

}  // namespace

void AttentionForward(const AttentionForwardParams& p) {
  ZeroAll(p.out);
  if (!p.lse.empty()) ZeroAll(p.lse);
  for (const AttentionSegment& segment : p.pattern->segments) {
    for (int64_t h = 0; h < p.q.shape[1]; ++h) {
      for (int64_t i = segment.lead; i < segment.length; ++i) {
        ForwardRow(p, segment, h, i);
      }
    }
  }
}

void AttentionBackward(const AttentionBackwardParams& p) {
  KeyGradients sums;
  sums.dk.assign(p.k.num_elements(), 0.0);
  sums.dv.assign(p.k.num_elements(), 0.0);
  ZeroAll(p.dq);
  for (const AttentionSegment& segment : p.pattern->segments) {
    for (int64_t h = 0; h < p.q.shape[1]; ++h) {
      for (int64_t i = segment.lead; i < segment.length; ++i) {
        BackwardRow(p, segment, h, i, &sums);
      }
    }
  }
  int64_t at = 0;
  for (int64_t t = 0; t < p.k.shape[0]; ++t) {
    for (int64_t kv = 0; kv < p.k.shape[1]; ++kv) {
      for (int64_t d = 0; d < p.k.shape[2]; ++d, ++at) {
        Store(p.dk, sums.dk[at], t, kv, d);
        Store(p.dv, sums.dv[at], t, kv, d);
      }
    }
  }
}

}  // namespace sinklora::kernels::reference
