// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "kernels/cache_attention/cache_reference.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {
namespace {

// [1, heads, head_dim]: one token of what CacheAttention takes.
ConstTensorView AsToken(const ConstTensorView& q) {
  ConstTensorView out = q;
  out.rank = 3;
  out.shape = {1, q.shape[0], q.shape[1], 1};
  out.stride = {0, q.stride[0], q.stride[1], 1};
  return out;
}

// Softmax of query head h over slots [0, used); 0 where it does not see.
std::vector<double> Probabilities(const CacheDecodeParams& batch,
                                  const DecodedToken& p, int64_t h) {
  const int64_t kv = h * p.cache.k.shape[0] / p.q.shape[0];
  std::vector<double> out(p.cache.used,
                          -std::numeric_limits<double>::infinity());
  double top = -std::numeric_limits<double>::infinity();
  for (int64_t j = 0; j < p.cache.used; ++j) {
    if (!Visible(p.cache, batch.window, kv, j, p.position)) continue;
    out[j] = batch.scale * Dot(AsToken(p.q), p.cache, 0, h, kv, j);
    top = std::max(top, out[j]);
  }
  double sum = 0.0;
  for (double& x : out) sum += x = std::exp(x - top);
  for (double& x : out) x /= sum;
  return out;
}

void AddScores(const DecodedToken& p, int64_t kv, int64_t group,
               const std::vector<std::vector<double>>& probabilities) {
  double growth = 0.0;
  for (int64_t j = 0; j < p.cache.used; ++j) {
    double added = 0.0;
    for (int64_t g = 0; g < group; ++g) added += probabilities[g][j];
    Store(p.scores, Load(p.scores, kv, j) + added, kv, j);
    growth += added;
  }
  Store(p.growth, growth, kv);
}

// Written from the contract, slot by slot; -1 for none.
int64_t Victim(const DecodedToken& p, int64_t window, int64_t kv) {
  const int64_t latest = p.position;
  using Key = std::tuple<int, double, int64_t>;  // lowest goes
  Key lowest;
  int64_t victim = -1;
  for (int64_t j = 0; j < p.cache.used; ++j) {
    const int64_t at = LoadInt(p.cache.positions, kv, j);
    if (at < 0) continue;
    const bool dead = window > 0 && latest + 1 - at >= window;
    if (!dead && (at < p.sink_tokens || at > latest - p.recent_tokens)) {
      continue;
    }
    const bool by_score = !dead && !p.scores.empty();
    const double score = by_score ? Load(p.scores, kv, j) : 0.0;
    if (std::isnan(score)) continue;
    const Key key{dead ? 0 : 1, score, at};
    if (victim < 0 || key < lowest) {
      lowest = key;
      victim = j;
    }
  }
  return victim;
}

void Evict(const DecodedToken& p, int64_t window, int64_t kv) {
  const int64_t victim = Victim(p, window, kv);
  p.victims.as<int32_t>()[kv * p.victims.stride[0]] =
      static_cast<int32_t>(victim);
  if (victim < 0) return;
  p.cache.positions.as<int32_t>()[kv * p.cache.positions.stride[0] + victim] =
      -1;
  if (!p.scores.empty()) Store(p.scores, 0.0, kv, victim);
}

// [1, kv_heads, head_dim] and [kv_heads, 1]: one token of what CacheWrite
// takes.
void Write(const DecodedToken& p) {
  ConstTensorView slots = p.slots;
  slots.rank = 2;
  slots.shape[1] = slots.stride[1] = 1;
  CacheWrite({.k = AsToken(p.k),
              .v = AsToken(p.v),
              .position = ConstTensorView(&p.position, DType::kI32, {1}),
              .slots = slots,
              .cache = p.cache});
}

void Decode(const CacheDecodeParams& batch, const DecodedToken& p) {
  Write(p);
  const int64_t group = p.q.shape[0] / p.cache.k.shape[0];
  for (int64_t kv = 0; kv < p.cache.k.shape[0]; ++kv) {
    std::vector<std::vector<double>> probabilities;
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      probabilities.push_back(Probabilities(batch, p, h));
      for (int64_t d = 0; d < p.q.shape[1]; ++d) {
        double out = 0.0;
        for (int64_t j = 0; j < p.cache.used; ++j) {
          const double weight = probabilities.back()[j];
          if (weight == 0.0) continue;  // nothing may be stored there
          out += weight * Stored(p.cache.v, p.cache.v_scale, kv, j, d);
        }
        Store(p.out, out, h, d);
      }
    }
    if (!p.scores.empty()) AddScores(p, kv, group, probabilities);
    if (!p.victims.empty()) Evict(p, batch.window, kv);
  }
}

}  // namespace

void CacheDecode(const CacheDecodeParams& p) {
  for (const DecodedToken& token : p.tokens) Decode(p, token);
}

}  // namespace sinklora::kernels::reference
