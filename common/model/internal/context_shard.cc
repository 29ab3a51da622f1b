// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/context_shard.h"

#include <algorithm>
#include <numeric>
#include <span>

namespace sinklora::internal {
namespace {

using kernels::AttentionPattern;
using kernels::AttentionSegment;

bool MayCut(const AttentionPattern& pattern, const AttentionSegment& segment) {
  return pattern.sink_tokens <= segment.group_size / 2;
}

const AttentionSegment& SegmentAt(const AttentionPattern& pattern,
                                  int64_t token) {
  return *std::find_if(
      pattern.segments.begin(), pattern.segments.end(),
      [&](const AttentionSegment& s) { return token < s.begin + s.length; });
}

// The place nearest to `token` where the batch may be cut.
int64_t NearestCut(const AttentionPattern& pattern, int64_t token) {
  const AttentionSegment& s = SegmentAt(pattern, token);
  const int64_t step =
      MayCut(pattern, s) ? std::min(s.group_size, s.length) : s.length;
  const int64_t before = (token - s.begin) / step * step;
  const int64_t after = std::min(before + step, s.length);
  const int64_t local = token - s.begin;
  return s.begin + (local - before <= after - local ? before : after);
}

int PlaceOf(const std::vector<ContextShard>& shards, int64_t token) {
  int place = 0;
  while (token >= shards[place].end) ++place;
  return place;
}

// Lets `reader` read tokens [begin, begin + count) of the batch.
void Connect(int64_t begin, int64_t count, int reader,
             std::vector<ContextShard>* shards) {
  if (count == 0) return;
  ContextShard& to = (*shards)[reader];
  const int lender = PlaceOf(*shards, begin);
  ContextShard& from = (*shards)[lender];
  to.reads.push_back({lender, to.lead, count});
  from.lends.push_back({reader, from.lead + begin - from.begin, count});
  to.lead += count;
}

template <typename T>
std::vector<T> Part(const std::vector<T>& all, const ContextShard& shard) {
  return {all.begin() + shard.begin, all.begin() + shard.end};
}

}  // namespace

int64_t ContextShard::lent_rows() const {
  return std::accumulate(
      lends.begin(), lends.end(), int64_t{0},
      [](int64_t sum, const Rows& rows) { return sum + rows.count; });
}

std::vector<ContextShard> CutBatch(const AttentionPattern& pattern,
                                   int64_t tokens, int size) {
  std::vector<ContextShard> shards(static_cast<size_t>(size));
  for (int place = 1; place < size; ++place) {
    const int64_t cut = NearestCut(pattern, tokens * place / size);
    shards[place - 1].end = shards[place].begin =
        std::max(cut, shards[place - 1].begin);
  }
  shards.back().end = tokens;
  for (int place = 1; place < size; ++place) {
    const ContextShard& shard = shards[place];
    if (shard.tokens() == 0) continue;
    const AttentionSegment& s = SegmentAt(pattern, shard.begin);
    if (s.begin == shard.begin) continue;
    const int64_t halo = pattern.shifted_heads > 0 ? s.group_size / 2 : 0;
    Connect(s.begin, pattern.sink_tokens, place, &shards);
    Connect(shard.begin - halo, halo, place, &shards);
  }
  return shards;
}

HostBatch TakeShard(const HostBatch& batch, const ContextShard& shard) {
  HostBatch out;
  out.ids = Part(batch.ids, shard);
  out.positions = Part(batch.positions, shard);
  out.labels = Part(batch.labels, shard);
  out.supervised_tokens =
      std::count_if(out.labels.begin(), out.labels.end(),
                    [](int32_t label) { return label >= 0; });
  out.lead_rows = shard.lead;
  out.lent_rows = shard.lent_rows();
  out.pattern = batch.pattern;
  out.pattern.segments.clear();
  for (const AttentionSegment& s : batch.pattern.segments) {
    const int64_t begin = std::max(s.begin, shard.begin);
    const int64_t end = std::min(s.begin + s.length, shard.end);
    if (begin >= end) continue;
    // Only what goes on here from before has the lead.
    const int64_t lead = s.begin < shard.begin ? shard.lead : 0;
    out.pattern.segments.push_back({shard.lead - lead + begin - shard.begin,
                                    lead + end - begin, s.group_size, lead});
  }
  return out;
}

}  // namespace sinklora::internal
