// A task a row. Where cumulative weights reach a threshold is found by digits
// of the rank key, the highest first: three passes over the row, no sort.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/sampling/sampling_weight.h"

namespace sinklora::kernels::cpu {
namespace {

// One row with its weights.
struct Row {
  const uint32_t* keys;     // [vocab]
  const uint64_t* weights;  // [vocab]
  int64_t vocab;
};

// The logit at which the sum over the rank reaches a threshold.
struct Crossing {
  uint32_t key;
  uint64_t before;  // sum of all with larger keys
};

// REQUIRES: 1 <= threshold <= the sum of all. `bins`: [kDigitBins].
template <typename ValueOf>
Crossing Reach(const Row& row, uint64_t threshold, const ValueOf& value_of,
               uint64_t* bins) {
  Crossing out{0, 0};
  uint32_t fixed = 0;  // bits of the key that are known
  for (int shift = kFirstShift;; shift = NextShift(shift)) {
    std::fill_n(bins, kDigitBins, 0);
    for (int64_t i = 0; i < row.vocab; ++i) {
      const uint32_t key = row.keys[i];
      if ((key & fixed) != out.key) continue;
      bins[(key & ~fixed) >> shift] += value_of(i);
    }
    uint32_t digit = kDigitBins - 1;
    while (out.before + bins[digit] < threshold) out.before += bins[digit--];
    out.key |= digit << shift;
    fixed = ~0u << shift;
    if (shift == 0) return out;
  }
}

// The row's largest logit that is first in rank; or what a bad row gives.
int32_t Best(const float* logits, int64_t vocab) {
  int64_t best = 0;
  for (int64_t i = 0; i < vocab; ++i) {
    if (IsBadLogit(std::bit_cast<uint32_t>(logits[i]))) {
      return static_cast<int32_t>(-1 - i);
    }
    if (logits[i] > logits[best]) best = i;
  }
  if (std::bit_cast<uint32_t>(logits[best]) == 0xff800000u) return -1;
  return static_cast<int32_t>(best);
}

// Weight of the first top_k of the rank.
uint64_t KeptWeight(const Row& row, int64_t top_k, uint64_t weight_of_key,
                    const Crossing& last) {
  uint64_t kept = (static_cast<uint64_t>(top_k) - last.before) * weight_of_key;
  for (int64_t i = 0; i < row.vocab; ++i) {
    if (row.keys[i] > last.key) kept += row.weights[i];
  }
  return kept;
}

int32_t Draw(const SampleRow& p, const Row& row, float top, uint64_t* bins) {
  const auto weight_of = [&](int64_t i) { return row.weights[i]; };
  const auto weight_at = [&](uint32_t key) {
    const auto logit = std::bit_cast<float>(BitsOfRankKey(key));
    return SampleWeight(static_cast<double>(top) - logit,
                        GapFactor(p.temperature));
  };
  uint64_t nucleus = 0;
  if (p.top_k > 0 && p.top_k < row.vocab) {
    const Crossing last = Reach(
        row, static_cast<uint64_t>(p.top_k),
        [](int64_t) { return uint64_t{1}; }, bins);
    nucleus = KeptWeight(row, p.top_k, weight_at(last.key), last);
  } else {
    for (int64_t i = 0; i < row.vocab; ++i) nucleus += row.weights[i];
  }
  if (p.top_p < 1) {
    const uint64_t least = NucleusThreshold(nucleus, p.top_p);
    const Crossing last = Reach(row, least, weight_of, bins);
    const uint64_t weight = weight_at(last.key);
    nucleus = last.before + TiesToReach(least, last.before, weight) * weight;
  }
  const uint64_t drawn = DrawThreshold(nucleus, p.draw);
  const Crossing chosen = Reach(row, drawn, weight_of, bins);
  uint64_t ties = TiesToReach(drawn, chosen.before, weight_at(chosen.key));
  for (int64_t i = 0; i < row.vocab; ++i) {
    if (row.keys[i] == chosen.key && --ties == 0) {
      return static_cast<int32_t>(i);
    }
  }
  return -1;  // the sums above leave no way here
}

int32_t SampleToken(const SampleRow& p, Scratch& scratch) {
  const auto* logits = p.logits.as<float>();
  const int64_t vocab = p.logits.shape[0];
  const int32_t best = Best(logits, vocab);
  if (best < 0 || p.temperature == 0) return best;
  auto* bins = scratch.Reserve<uint64_t>(kDigitBins + vocab + (vocab + 1) / 2);
  uint64_t* weights = bins + kDigitBins;
  auto* keys = reinterpret_cast<uint32_t*>(weights + vocab);
  const double top = logits[best];
  const double factor = GapFactor(p.temperature);
  for (int64_t i = 0; i < vocab; ++i) {
    keys[i] = RankKey(std::bit_cast<uint32_t>(logits[i]));
    weights[i] = SampleWeight(top - logits[i], factor);
  }
  return Draw(p, {keys, weights, vocab}, logits[best], bins);
}

}  // namespace

void SampleTokens(const SampleTokensParams& p, CpuContext& context) {
  context.pool.Run(
      static_cast<int64_t>(p.rows.size()), [&](int64_t i, int thread) {
        p.ids[i] = SampleToken(p.rows[i], context.thread_scratch[thread]);
      });
}

}  // namespace sinklora::kernels::cpu
