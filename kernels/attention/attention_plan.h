// How CPU attention cuts its work: query tiles that lie in one group, key tiles
// at fixed places of the segment, and the visits of one by the other. A visit
// covers allowed pairs only, save for the causal corner, so the work follows
// LivePairs and not tokens^2.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_PLAN_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_PLAN_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/attention/pattern.h"

namespace sinklora::kernels::cpu {

// Tokens of a query tile (at most) and of a key tile (exactly, the segment's
// last one padded).
inline constexpr int64_t kTile = 64;
inline constexpr int64_t kMaxHeadDim = 256;

// Up to whole AMX tiles of bf16 (kTileElements in amx.h).
inline int64_t PaddedHeadDim(int64_t head_dim) {
  return (head_dim + 31) / 32 * 32;
}

// Local queries [begin, begin + rows) of one group. They see keys [0, sinks)
// and [group_begin, own position], of which the last `window` ones at most.
struct QueryTile {
  int64_t begin = 0;
  int64_t rows = 0;
  int64_t group_begin = 0;
  int64_t sinks = 0;
  int64_t window = 0;  // 0: no limit

  // First key that the first row may see for the window.
  int64_t window_begin() const {
    return window == 0 ? 0 : std::max<int64_t>(0, begin - window + 1);
  }
};

// Tiles of at most `tile_rows` queries.
std::vector<QueryTile> QueryTiles(const AttentionPattern& pattern,
                                  const AttentionSegment& segment, bool shifted,
                                  int64_t tile_rows = kTile);

// Pairs a tile computes, to order tasks by.
int64_t PairsOf(const QueryTile& tile);

// Columns [begin, end) of key tile `tile`, as seen by rows [first_row, end_row)
// of a query tile: row r sees columns [Begin(r), Limit(r)), never none. Rows
// from full_row on see all to the end, rows before window_row all from the
// beginning.
struct Visit {
  int64_t tile = 0;
  int64_t begin = 0, end = 0;
  int64_t first_row = 0, full_row = 0, window_row = 0, end_row = 0;
  int64_t diagonal = 0;         // Limit(r) = min(end, diagonal + r)
  int64_t window_diagonal = 0;  // Begin(r) = max(begin, window_diagonal + r)

  int64_t Begin(int64_t row) const {
    return row < window_row ? begin : window_diagonal + row;
  }
  int64_t Limit(int64_t row) const { return std::min(end, diagonal + row); }
};

// Keys [key_begin, key_end) of key tile `tile`, local positions. REQUIRES: the
// range lies in the tile, the last row of the query tile is not before its
// first key and the first row's window not after its last.
inline Visit MakeVisit(const QueryTile& query, int64_t tile, int64_t key_begin,
                       int64_t key_end) {
  Visit visit;
  visit.tile = tile;
  visit.begin = key_begin - tile * kTile;
  visit.end = key_end - tile * kTile;
  visit.diagonal = query.begin + 1 - tile * kTile;
  visit.first_row = std::max<int64_t>(0, key_begin - query.begin);
  visit.window_row = visit.end_row = query.rows;
  if (query.window > 0) {
    visit.window_diagonal = visit.diagonal - query.window;
    visit.end_row = std::min(query.rows, visit.end - visit.window_diagonal);
    visit.window_row =
        std::clamp<int64_t>(visit.begin - visit.window_diagonal + 1,
                            visit.first_row, visit.end_row);
  }
  visit.full_row = std::clamp<int64_t>(key_end - 1 - query.begin,
                                       visit.first_row, visit.end_row);
  return visit;
}

// Calls body(visit) for the parts of keys [begin, end) in key tiles [first,
// last], ascending.
template <typename Body>
void VisitRange(const QueryTile& query, int64_t begin, int64_t end,
                int64_t first, int64_t last, Body& body) {
  if (begin >= end) return;
  first = std::max(first, begin / kTile);
  last = std::min(last, (end - 1) / kTile);
  for (int64_t tile = first; tile <= last; ++tile) {
    body(MakeVisit(query, tile, std::max(begin, tile * kTile),
                   std::min(end, (tile + 1) * kTile)));
  }
}

// All visits of a query tile to key tiles [first, last], in the one order that
// every caller accumulates in.
template <typename Body>
void ForEachVisit(const QueryTile& query, int64_t first, int64_t last,
                  Body body) {
  const int64_t begin = query.window_begin();
  const int64_t end = query.begin + query.rows;
  VisitRange(query, begin, query.sinks, first, last, body);
  VisitRange(query, std::max(begin, query.group_begin), end, first, last, body);
}

// Tiles of one segment, and where its key tiles lie in the packed panels.
struct SegmentPlan {
  AttentionSegment segment;
  std::vector<QueryTile> queries[2];  // [shifted]
  int64_t first_key_tile = 0;
  int64_t key_tiles = 0;
};

struct AttentionPlan {
  std::vector<SegmentPlan> segments;
  int64_t key_tiles = 0;  // of all segments
};

AttentionPlan MakePlan(const AttentionPattern& pattern);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_PLAN_H_
