// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention_plan.h"

namespace sinklora::kernels::cpu {

std::vector<QueryTile> QueryTiles(const AttentionPattern& pattern,
                                  const AttentionSegment& segment, bool shifted,
                                  int64_t tile_rows) {
  std::vector<QueryTile> tiles;
  for (int64_t p = segment.lead; p < segment.length;) {
    const GroupRange group = GroupOf(segment, shifted, p);
    const int64_t sinks = OuterSinks(pattern, group);
    for (; p < group.end; p += tile_rows) {
      tiles.push_back({p, std::min(tile_rows, group.end - p), group.begin,
                       sinks, pattern.window});
    }
    p = group.end;
  }
  return tiles;
}

int64_t PairsOf(const QueryTile& tile) {
  const int64_t begin = tile.window_begin();
  const int64_t sinks = std::max<int64_t>(0, tile.sinks - begin);
  const int64_t before = tile.begin - std::max(begin, tile.group_begin);
  return tile.rows * (sinks + before + (tile.rows + 1) / 2);
}

AttentionPlan MakePlan(const AttentionPattern& pattern) {
  AttentionPlan plan;
  for (const AttentionSegment& segment : pattern.segments) {
    SegmentPlan part;
    part.segment = segment;
    part.queries[0] = QueryTiles(pattern, segment, false);
    part.queries[1] = QueryTiles(pattern, segment, true);
    part.first_key_tile = plan.key_tiles;
    part.key_tiles = (segment.length + kTile - 1) / kTile;
    plan.key_tiles += part.key_tiles;
    plan.segments.push_back(std::move(part));
  }
  return plan;
}

}  // namespace sinklora::kernels::cpu
