// Cuts of batches over ranks, against the rule of the patterns expanded to
// single pairs.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/context_shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <tuple>

#include "kernels/attention/pattern.h"
#include "tests/common/model/model_fixture.h"
#include "tests/kernels/attention/dense_attention.h"

namespace sinklora {
namespace {

using internal::BuildBatch;
using internal::ContextShard;
using internal::CutBatch;
using internal::HostBatch;
using internal::TakeShard;
using ::testing::ElementsAre;

constexpr int64_t kHeads = 4;

AttentionOptions Options(PatternKind pattern, int64_t group, int64_t sinks) {
  AttentionOptions options;
  options.pattern = pattern;
  options.group_size_tokens = group;
  options.sink_tokens = sinks;
  return options;
}

HostBatch Batch(const std::vector<int64_t>& documents,
                const AttentionOptions& options) {
  const TrainingExample example = RandomExample(documents, 48, 7);
  return BuildBatch({&example, 1}, options, kHeads);
}

std::vector<int64_t> Lengths(const std::vector<ContextShard>& shards) {
  std::vector<int64_t> out;
  for (const ContextShard& shard : shards) out.push_back(shard.tokens());
  return out;
}

std::vector<int64_t> LengthsOf(const std::vector<int64_t>& documents, int size,
                               const AttentionOptions& options) {
  const HostBatch batch = Batch(documents, options);
  return Lengths(CutBatch(batch.pattern, batch.tokens(), size));
}

// Token of the batch in every row of a shard, from the first of its lead.
std::vector<int64_t> TokensOf(const std::vector<ContextShard>& shards,
                              int place) {
  std::vector<int64_t> out;
  const ContextShard& shard = shards[place];
  for (const ContextShard::Rows& rows : shard.reads) {
    const ContextShard& from = shards[rows.place];
    // The other end has the same rows, in the same order for this reader.
    const auto lent = std::find_if(
        from.lends.begin(), from.lends.end(), [&](const auto& lends) {
          const int64_t token = from.begin + lends.begin - from.lead;
          return lends.place == place && lends.count == rows.count &&
                 std::find(out.begin(), out.end(), token) == out.end();
        });
    EXPECT_TRUE(lent != from.lends.end());
    EXPECT_EQ(rows.begin, static_cast<int64_t>(out.size()));
    for (int64_t i = 0; i < rows.count; ++i) {
      out.push_back(from.begin + lent->begin - from.lead + i);
    }
  }
  EXPECT_EQ(static_cast<int64_t>(out.size()), shard.lead);
  for (int64_t t = shard.begin; t < shard.end; ++t) out.push_back(t);
  return out;
}

using Pair = std::tuple<int64_t, int64_t, int64_t>;  // head, query, key

void AddPairs(const kernels::AttentionPattern& pattern,
              const std::vector<int64_t>& tokens, std::set<Pair>* out) {
  const auto rows = static_cast<int64_t>(tokens.size());
  for (int64_t h = 0; h < kHeads; ++h) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        if (!kernels::Allowed(pattern, kHeads, h, i, j)) continue;
        EXPECT_TRUE(out->insert({h, tokens[i], tokens[j]}).second)
            << "twice: head " << h << " query " << tokens[i] << " key "
            << tokens[j];
      }
    }
  }
}

std::set<Pair> PairsOfWhole(const HostBatch& batch) {
  std::vector<int64_t> tokens;
  for (int64_t t = 0; t < batch.tokens(); ++t) tokens.push_back(t);
  std::set<Pair> out;
  AddPairs(batch.pattern, tokens, &out);
  return out;
}

std::set<Pair> PairsOfShards(const HostBatch& batch, int size) {
  const auto shards = CutBatch(batch.pattern, batch.tokens(), size);
  std::set<Pair> out;
  for (int place = 0; place < size; ++place) {
    const HostBatch part = TakeShard(batch, shards[place]);
    AddPairs(part.pattern, TokensOf(shards, place), &out);
  }
  return out;
}

TEST(ContextShardTest, ShardsHaveThePairsOfTheWholeOnce) {
  std::mt19937 bits(3);
  const auto draw = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(bits() % (high - low + 1));
  };
  const PatternKind kinds[] = {
      PatternKind::kShort, PatternKind::kS2, PatternKind::kS2Sinks,
      PatternKind::kSegmentReassemble, PatternKind::kSf};
  for (int round = 0; round < 60; ++round) {
    const int64_t group = draw(2, 12);
    // Sometimes more sinks than half a group: then nothing is cut.
    AttentionOptions options =
        Options(kinds[round % 5], group, draw(0, group / 2 + (round % 7 == 0)));
    if (round % 4 == 0) options.full_below_tokens = draw(3, 20);
    if (round % 6 == 0) options.group_size_tokens = 0;  // by ratio
    std::vector<int64_t> documents;
    for (int64_t n = draw(1, 4); n > 0; --n) documents.push_back(draw(1, 45));
    const HostBatch batch = Batch(documents, options);
    const auto size = static_cast<int>(draw(2, 5));
    EXPECT_EQ(PairsOfShards(batch, size), PairsOfWhole(batch))
        << "round " << round << " group " << group << " sinks "
        << batch.pattern.sink_tokens << " ranks " << size;
  }
}

// A window is that of the whole where there are no sinks.
TEST(ContextShardTest, WindowsGoOnAcrossACut) {
  HostBatch batch = Batch({50, 9}, Options(PatternKind::kS2, 8, 0));
  for (const int64_t window : {1, 3, 8, 30}) {
    batch.pattern.window = window;
    EXPECT_EQ(PairsOfShards(batch, 3), PairsOfWhole(batch));
  }
}

TEST(ContextShardTest, PartsAreAsEqualAsGroupsAllow) {
  const auto sf = [](int64_t group) {
    return Options(PatternKind::kSf, group, 4);
  };
  EXPECT_THAT(LengthsOf({64}, 2, sf(16)), ElementsAre(32, 32));
  EXPECT_THAT(LengthsOf({64}, 3, sf(16)), ElementsAre(16, 32, 16));
  EXPECT_THAT(LengthsOf({70}, 2, sf(16)), ElementsAre(32, 38));
  EXPECT_THAT(LengthsOf({100, 60}, 2, sf(16)), ElementsAre(80, 80));
  // Between documents, too.
  EXPECT_THAT(LengthsOf({33, 31}, 2, sf(16)), ElementsAre(32, 32));
  EXPECT_THAT(LengthsOf({30, 34}, 2, sf(64)), ElementsAre(30, 34));
  // Too short to cut: one rank has all of it.
  EXPECT_THAT(LengthsOf({10}, 3, sf(16)), ElementsAre(0, 10, 0));
  EXPECT_THAT(LengthsOf({64}, 2, Options(PatternKind::kSf, 16, 9)),
              ElementsAre(0, 64));
}

TEST(ContextShardTest, NeighboursTellEachOtherOfHalfAGroup) {
  const HostBatch batch = Batch({48}, Options(PatternKind::kSf, 16, 4));
  const auto shards = CutBatch(batch.pattern, 48, 3);
  EXPECT_EQ(shards[0].lead, 0);
  EXPECT_EQ(shards[0].lent_rows(), 4 + 8 + 4);  // twice its sinks
  EXPECT_EQ(shards[1].lead, 4 + 8);
  EXPECT_EQ(shards[1].lent_rows(), 8);
  EXPECT_EQ(shards[2].lead, 4 + 8);
  EXPECT_EQ(shards[2].lent_rows(), 0);
  // Without shifted heads there is no halo, without sinks nothing at all.
  const HostBatch plain = Batch({48}, Options(PatternKind::kShort, 16, 0));
  for (const ContextShard& shard : CutBatch(plain.pattern, 48, 3)) {
    EXPECT_EQ(shard.lead + shard.lent_rows(), 0);
  }
}

TEST(ContextShardTest, LabelsAndPositionsAreThoseOfTheWhole) {
  const HostBatch batch = Batch({29, 20}, Options(PatternKind::kSf, 8, 4));
  std::vector<int32_t> ids, positions, labels;
  int64_t supervised = 0;
  for (const ContextShard& shard : CutBatch(batch.pattern, batch.tokens(), 3)) {
    const HostBatch part = TakeShard(batch, shard);
    ids.insert(ids.end(), part.ids.begin(), part.ids.end());
    positions.insert(positions.end(), part.positions.begin(),
                     part.positions.end());
    labels.insert(labels.end(), part.labels.begin(), part.labels.end());
    supervised += part.supervised_tokens;
    EXPECT_EQ(part.lead_rows, shard.lead);
  }
  EXPECT_EQ(ids, batch.ids);
  EXPECT_EQ(positions, batch.positions);
  EXPECT_EQ(labels, batch.labels);
  EXPECT_EQ(supervised, batch.supervised_tokens);
}

}  // namespace
}  // namespace sinklora
