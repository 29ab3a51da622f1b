// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/reference/reference_ops.h"
#include "kernels/sampling/sampling_weight.h"

namespace sinklora::kernels::reference {
namespace {

int32_t SampleToken(const SampleRow& row) {
  const auto* logits = row.logits.as<float>();
  std::vector<int32_t> rank(row.logits.shape[0]);
  std::iota(rank.begin(), rank.end(), 0);
  for (const int32_t id : rank) {
    if (IsBadLogit(std::bit_cast<uint32_t>(logits[id]))) return -1 - id;
  }
  std::stable_sort(rank.begin(), rank.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  const double top = logits[rank[0]];
  if (std::isinf(top)) return -1;
  if (row.temperature == 0) return rank[0];

  size_t kept = rank.size();
  if (row.top_k > 0) kept = std::min(kept, static_cast<size_t>(row.top_k));
  std::vector<uint64_t> cumulative(kept);
  uint64_t total = 0;
  for (size_t i = 0; i < kept; ++i) {
    total += SampleWeight(top - logits[rank[i]], GapFactor(row.temperature));
    cumulative[i] = total;
  }
  const auto reaching = [&](uint64_t threshold) {
    return std::lower_bound(cumulative.begin(), cumulative.end(), threshold) -
           cumulative.begin();
  };
  const uint64_t nucleus =
      cumulative[reaching(NucleusThreshold(total, row.top_p))];
  return rank[reaching(DrawThreshold(nucleus, row.draw))];
}

}  // namespace

void SampleTokens(const SampleTokensParams& p) {
  for (size_t i = 0; i < p.rows.size(); ++i) p.ids[i] = SampleToken(p.rows[i]);
}

}  // namespace sinklora::kernels::reference
