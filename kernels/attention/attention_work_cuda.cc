// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention_work_cuda.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "kernels/attention/attention_plan.h"
#include "kernels/attention/pattern.h"

namespace sinklora::kernels::cuda {
namespace {

// Queries of one chunk over sinks, at least: about what other tiles have.
constexpr int64_t kMinChunkQueries = 2048;

int32_t Narrow(int64_t x) { return static_cast<int32_t>(x); }

QueryWork WorkOf(const cpu::QueryTile& tile, int64_t token) {
  const int64_t visible = tile.window_begin();
  QueryWork work;
  work.token = Narrow(token);
  work.begin = Narrow(tile.begin);
  work.rows = Narrow(tile.rows);
  work.sink_begin = Narrow(std::min(visible, tile.sinks));
  work.sink_end = Narrow(tile.sinks);
  work.key_begin = Narrow(std::max(visible, tile.group_begin));
  return work;
}

int64_t KeysOf(const QueryWork& w) {
  return w.sink_end - w.sink_begin + w.begin + w.rows - w.key_begin;
}

int64_t QueriesOf(const KeyWork& w) {
  return int64_t{w.query_end[0]} + w.query_end[1] - 2 * w.query_begin;
}

// Key tiles of one segment.
class KeyCutter {
 public:
  KeyCutter(const AttentionPattern& pattern, int64_t heads, int64_t tile_rows)
      : pattern_(pattern), heads_(heads), tile_rows_(tile_rows) {}

  void Cut(const AttentionSegment& segment, KeyPlan* plan) const {
    for (int64_t p = 0; p < segment.length;) {
      const bool sink = p < pattern_.sink_tokens;
      // Heads of one kind only: the other cuts nothing.
      const bool plain = pattern_.shifted_heads < heads_;
      const bool shifted = pattern_.shifted_heads > 0;
      const int64_t ends[2] = {GroupOf(segment, !plain, p).end,
                               GroupOf(segment, shifted, p).end};
      int64_t end = std::min(p + tile_rows_, segment.length);
      end = sink ? std::min(end, pattern_.sink_tokens)
                 : std::min({end, ends[0], ends[1]});
      KeyWork work;
      work.token = Narrow(segment.begin);
      work.begin = Narrow(p);
      work.rows = Narrow(end - p);
      work.query_begin = Narrow(std::max(p, segment.lead));
      for (int i : {0, 1}) {
        const int64_t last = sink ? segment.length : ends[i];
        work.query_end[i] = std::max(
            work.query_begin,
            Narrow(std::min(last, end - 1 + int64_t{WindowOf(pattern_)})));
      }
      if (sink) {
        CutSinks(segment, work, plan);
      } else {
        plan->tiles.push_back(work);
      }
      p = end;
    }
  }

 private:
  void CutSinks(const AttentionSegment& segment, KeyWork work,
                KeyPlan* plan) const {
    const int64_t end = work.query_end[0];
    const int64_t chunk = std::max(segment.group_size, kMinChunkQueries);
    if (end - work.query_begin <= chunk) {
      plan->tiles.push_back(work);
      return;
    }
    SinkWork sums{work.token, work.begin, work.rows, plan->partials, 0};
    for (int64_t q = work.query_begin; q < end; q += chunk) {
      work.query_begin = Narrow(q);
      work.query_end[0] = work.query_end[1] = Narrow(std::min(end, q + chunk));
      work.partial = plan->partials++;
      ++sums.partials;
      plan->tiles.push_back(work);
    }
    plan->sinks.push_back(sums);
  }

  const AttentionPattern& pattern_;
  const int64_t heads_;
  const int64_t tile_rows_;
};

}  // namespace

QueryPlan PlanQueries(const AttentionPattern& pattern, int64_t heads,
                      int64_t tile_rows) {
  QueryPlan plan;
  for (const bool shifted : {false, true}) {
    const int64_t count =
        shifted ? pattern.shifted_heads : heads - pattern.shifted_heads;
    const size_t first = plan.tiles.size();
    for (const AttentionSegment& segment : pattern.segments) {
      if (count == 0) break;
      for (const cpu::QueryTile& tile :
           cpu::QueryTiles(pattern, segment, shifted, tile_rows)) {
        plan.tiles.push_back(WorkOf(tile, segment.begin));
      }
    }
    std::stable_sort(plan.tiles.begin() + static_cast<std::ptrdiff_t>(first),
                     plan.tiles.end(),
                     [](const QueryWork& a, const QueryWork& b) {
                       return KeysOf(a) > KeysOf(b);
                     });
    if (!shifted) plan.plain_tiles = static_cast<int>(plan.tiles.size());
  }
  return plan;
}

KeyPlan PlanKeys(const AttentionPattern& pattern, int64_t heads,
                 int64_t tile_rows) {
  KeyPlan plan;
  const KeyCutter cutter(pattern, heads, tile_rows);
  for (const AttentionSegment& segment : pattern.segments) {
    cutter.Cut(segment, &plan);
  }
  std::stable_sort(plan.tiles.begin(), plan.tiles.end(),
                   [](const KeyWork& a, const KeyWork& b) {
                     return QueriesOf(a) > QueriesOf(b);
                   });
  return plan;
}

std::vector<Gap> Gaps(const AttentionPattern& pattern, int64_t tokens,
                      bool leads) {
  std::vector<Gap> gaps;
  int64_t at = 0;
  for (const AttentionSegment& segment : pattern.segments) {
    const int64_t begin = segment.begin + (leads ? segment.lead : 0);
    if (begin > at) gaps.push_back({Narrow(at), Narrow(begin)});
    at = segment.begin + segment.length;
  }
  if (tokens > at) gaps.push_back({Narrow(at), Narrow(tokens)});
  return gaps;
}

int32_t WindowOf(const AttentionPattern& pattern) {
  constexpr int64_t kAll = std::numeric_limits<int32_t>::max() / 2;
  return Narrow(pattern.window == 0 ? kAll : std::min(pattern.window, kAll));
}

}  // namespace sinklora::kernels::cuda
