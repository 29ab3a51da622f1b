// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/eviction.h"

#include <algorithm>

namespace sinklora::internal {
namespace {

// Whether the query after `latest`, and so every later one, does not see it.
bool IsDead(const EvictionRule& rule, int64_t position, int64_t latest) {
  return rule.window > 0 && latest + 1 - position >= rule.window;
}

bool IsProtected(const EvictionRule& rule, int64_t position, int64_t latest) {
  return !IsDead(rule, position, latest) &&
         (position < rule.sink_tokens ||
          position > latest - rule.recent_tokens);
}

// Whether slot a goes before slot b.
bool GoesBefore(const EvictionRule& rule, const CacheHead& head, int64_t latest,
                int32_t a, int32_t b) {
  const bool a_dead = IsDead(rule, head.positions[a], latest);
  const bool b_dead = IsDead(rule, head.positions[b], latest);
  if (a_dead != b_dead) return a_dead;
  if (!a_dead && !head.scores.empty() && head.scores[a] != head.scores[b]) {
    return head.scores[a] < head.scores[b];
  }
  return head.positions[a] < head.positions[b];
}

}  // namespace

double ScoreTolerance(double grown, double sum_after) {
  constexpr double kRelative = 1e-3;
  constexpr double kHalfUlp = 1.0 / (1 << 24);
  return kRelative * grown + kHalfUlp * grown * sum_after;
}

std::vector<int32_t> ChooseKept(const EvictionRule& rule, const CacheHead& head,
                                int64_t latest, int64_t budget) {
  std::vector<int32_t> kept, candidates;
  for (size_t j = 0; j < head.positions.size(); ++j) {
    const int32_t position = head.positions[j];
    if (position < 0) continue;
    auto& list = IsProtected(rule, position, latest) ? kept : candidates;
    list.push_back(static_cast<int32_t>(j));
  }
  // The scores do not change while one prompt is cut down, so evicting one by
  // one leaves the candidates that go last.
  const int64_t room =
      std::clamp<int64_t>(budget - static_cast<int64_t>(kept.size()), 0,
                          static_cast<int64_t>(candidates.size()));
  std::nth_element(candidates.begin(), candidates.end() - room,
                   candidates.end(), [&](int32_t a, int32_t b) {
                     return GoesBefore(rule, head, latest, a, b);
                   });
  kept.insert(kept.end(), candidates.end() - room, candidates.end());
  std::sort(kept.begin(), kept.end());
  return kept;
}

}  // namespace sinklora::internal
