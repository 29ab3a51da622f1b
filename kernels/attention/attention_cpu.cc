// Forward training attention: online softmax over tiles. A task is a few
// neighbouring query tiles of one head.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/attention/attention_panels.h"
#include "kernels/attention/attention_plan.h"
#include "kernels/attention/attention_zero.h"
#include "kernels/attention/pair_softmax.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/attention/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Buffers of one query tile in its thread's scratch. With pairs, pair_dim is in
// place of head_dim.
struct ForwardBuffers {
  float* sums;         // [kTile][head_dim]
  float* scores;       // [kTile][kTile]
  float* queries;      // [kTile][head_dim], scaled
  RowSoftmax* rows;    // [kTile]
  Bf16Pair* queries2;  // [kTile][pair_dim / 2], in place of queries
  Bf16Pair* weights2;  // [kTile][kTile / 2]
  PairSoftmax* rows2;  // [kTile], in place of rows
};

constexpr int64_t kSoftmaxFloats = sizeof(PairSoftmax) / sizeof(float);

int64_t ForwardFloats(int64_t head_dim) {
  return kTile *
         (2 * PaddedHeadDim(head_dim) + kTile + kTile / 2 + kSoftmaxFloats);
}

ForwardBuffers ForwardBuffersIn(float* scratch, int64_t head_dim) {
  const int64_t row = PaddedHeadDim(head_dim);
  ForwardBuffers b;
  b.rows2 = reinterpret_cast<PairSoftmax*>(scratch);  // 64-byte aligned
  b.rows = reinterpret_cast<RowSoftmax*>(scratch);
  b.scores = scratch + kTile * kSoftmaxFloats;
  b.weights2 = reinterpret_cast<Bf16Pair*>(b.scores + kTile * kTile);
  b.queries = b.scores + kTile * (kTile + kTile / 2);
  b.queries2 = reinterpret_cast<Bf16Pair*>(b.queries);
  b.sums = b.queries + kTile * row;
  return b;
}

// Scores of a visit to probabilities under the rows' tops so far.
HWY_INLINE void SoftmaxRows(const Visit& visit, int64_t head_dim,
                            ForwardBuffers& b) {
  for (int64_t r = visit.first_row; r < visit.end_row; ++r) {
    const int64_t begin = visit.Begin(r);
    const int64_t limit = visit.Limit(r);
    const ColumnSpan block = BlockColumns(visit, kF32Cut, r);
    const ColumnSpan span = WidenToVectors(block.begin, block.end);
    const bool all = span.begin == begin && span.end == limit;
    const auto mask = [&](int64_t c) { return ColumnsIn(c, begin, limit); };
    float* scores = b.scores + r * kTile;
    const float factor =
        all ? SoftmaxStep(scores, span, AllColumns(), b.rows[r])
            : SoftmaxStep(scores, span, mask, b.rows[r]);
    float* sums = b.sums + r * head_dim;
    if (factor != 1.0f) ScaledCopy(sums, factor, sums, head_dim);
  }
}

template <class D>
HWY_INLINE void ForwardVisit(D d, const Visit& visit, const float* keys,
                             const float* values, bool finite, int64_t head_dim,
                             ForwardBuffers& b) {
  ScoreRows(visit, b.queries, keys, b.scores, head_dim);
  SoftmaxRows(visit, head_dim, b);
  AccumulateRows(d, visit, b.scores, values, head_dim, b.sums, head_dim,
                 finite);
}

#if HWY_TARGET == HWY_AVX3
HWY_INLINE void SoftmaxRowPairs(const Visit& visit, Cut cut, float factor,
                                int64_t pair_dim, ForwardBuffers& b) {
  for (int64_t r = visit.first_row; r < visit.end_row; ++r) {
    const ColumnSpan block = BlockColumns(visit, cut, r);
    const ColumnSpan span = WidenToVectors(block.begin, block.end);
    const RowColumns columns{span.begin, span.end, visit.Begin(r),
                             visit.Limit(r)};
    const float change = PairSoftmaxRow(
        b.scores + r * kTile, columns, factor,
        reinterpret_cast<bf16_t*>(b.weights2 + r * (kTile / 2)), b.rows2[r]);
    float* sums = b.sums + r * pair_dim;
    if (change != 1.0f) ScaledCopy(sums, change, sums, pair_dim);
  }
}

HWY_INLINE void ForwardVisitPairs(PairProducts products, const Visit& visit,
                                  const Bf16Pair* keys, const Bf16Pair* values,
                                  bool finite, float factor, int64_t pair_dim,
                                  ForwardBuffers& b) {
  ScoreRowPairs(products, visit, b.queries2, keys, b.scores, pair_dim);
  SoftmaxRowPairs(visit, products.cut(), factor, pair_dim, b);
  AccumulateRowPairs(products, visit, b.weights2, values, b.sums, pair_dim,
                     finite);
}
#endif

// The visits of a query tile, whose queries are in `b`, to one key tile.
void VisitKeyTile(const SegmentPlan& segment, const QueryTile& query,
                  int64_t kv_head, int64_t key_tile, const Panels& panels,
                  int64_t head_dim, float scale, ForwardBuffers& b) {
  const int64_t tile = segment.first_key_tile + key_tile;
  const bool finite = panels.Finite(kValueRows, kv_head, tile);
#if HWY_TARGET == HWY_AVX3
  if (panels.pairs()) {
    const PairProducts products{panels.in_tiles()};
    ForEachVisit(query, key_tile, key_tile, [&](const Visit& visit) {
      ForwardVisitPairs(products, visit,
                        panels.GetPairs(kKeysTransposed, kv_head, tile),
                        panels.GetPairs(kValueRows, kv_head, tile), finite,
                        ExponentFactor(scale), panels.pair_dim(), b);
    });
    return;
  }
#endif
  (void)scale;  // the queries have it
  WithHeadTag(head_dim, [&](auto d) {
    ForEachVisit(query, key_tile, key_tile, [&](const Visit& visit) {
      ForwardVisit(d, visit, panels.Get(kKeysTransposed, kv_head, tile),
                   panels.Get(kValueRows, kv_head, tile), finite, head_dim, b);
    });
  });
}

// With them nothing has been seen yet.
void LoadQueries(const AttentionForwardParams& p, int64_t token, int64_t rows,
                 int64_t head, const Panels& panels, const ForwardBuffers& b) {
  const int64_t head_dim = p.q.shape[2];
#if HWY_TARGET == HWY_AVX3
  if (panels.pairs()) {
    const int64_t pair_dim = panels.pair_dim();
    for (int64_t r = 0; r < rows; ++r) {
      AskForRowAhead(At(p.q, token + r, head), p.q.stride[0], head_dim);
      LoadScoreRow(At(p.q, token + r, head), p.scale, head_dim, pair_dim,
                   b.queries2 + r * (pair_dim / 2));
      b.rows2[r] = PairSoftmax();
    }
    std::memset(b.sums, 0, rows * pair_dim * sizeof(float));
    return;
  }
#else
  (void)panels;
#endif
  for (int64_t r = 0; r < rows; ++r) {
    ScaledCopy(At(p.q, token + r, head), p.scale, b.queries + r * head_dim,
               head_dim);
    b.rows[r] = RowSoftmax();
  }
  std::memset(b.sums, 0, rows * head_dim * sizeof(float));
}

// Rows of a query tile that has seen all it sees.
void StoreRows(const AttentionForwardParams& p, int64_t token, int64_t rows,
               int64_t head, const Panels& panels, const ForwardBuffers& b) {
  const int64_t head_dim = p.q.shape[2];
  const bool pairs = panels.pairs();
  const int64_t stride = pairs ? panels.pair_dim() : head_dim;
  for (int64_t r = 0; r < rows; ++r) {
    float sum = 0.0f, lse = 0.0f;
    if (pairs) {
#if HWY_TARGET == HWY_AVX3
      sum = b.rows2[r].Sum();
      lse = b.rows2[r].LogSumExp();
#endif
    } else {
      sum = b.rows[r].sum;
      lse = b.rows[r].top + std::log(sum);
    }
    ScaledCopy(b.sums + r * stride, 1.0f / sum, At(p.out, token + r, head),
               head_dim);
    if (!p.lse.empty()) At(p.lse, head)[token + r] = lse;
  }
}

// Query tiles [queries, queries + count) of one head, which visit each key tile
// one after the other, so that it comes from memory once.
constexpr int64_t kMaxTogether = 2;

void ForwardTiles(const AttentionForwardParams& p, const SegmentPlan& segment,
                  const QueryTile* queries, int64_t count, int64_t head,
                  const Panels& panels, float* scratch) {
  const int64_t head_dim = p.q.shape[2];
  const int64_t kv_head = head * p.k.shape[1] / p.q.shape[1];
  const auto token = [&](int64_t i) {
    return segment.segment.begin + queries[i].begin;
  };
  ForwardBuffers buffers[kMaxTogether];
  std::optional<TileScope> tiles;
  if (panels.in_tiles()) tiles.emplace();
  int64_t end = 0;  // of the key tiles that any of them sees
  for (int64_t i = 0; i < count; ++i) {
    ForwardBuffers& b = buffers[i];
    b = ForwardBuffersIn(scratch + i * ForwardFloats(head_dim), head_dim);
    LoadQueries(p, token(i), queries[i].rows, head, panels, b);
    end = std::max(end, (queries[i].begin + queries[i].rows - 1) / kTile + 1);
  }
  for (int64_t tile = 0; tile < end; ++tile) {
    for (int64_t i = 0; i < count; ++i) {
      VisitKeyTile(segment, queries[i], kv_head, tile, panels, head_dim,
                   p.scale, buffers[i]);
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    StoreRows(p, token(i), queries[i].rows, head, panels, buffers[i]);
  }
}

// Scratch of a task.
int64_t TaskFloats(int64_t head_dim) {
  return kMaxTogether * ForwardFloats(head_dim);
}
int64_t MaxTogether() { return kMaxTogether; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(ForwardTiles);
HWY_EXPORT(MaxTogether);
HWY_EXPORT(TaskFloats);

namespace {

struct Task {
  const SegmentPlan* segment;
  const QueryTile* queries;  // so many
  int64_t count;
  int64_t head;

  int64_t pairs() const {
    int64_t sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += PairsOf(queries[i]);
    return sum;
  }
};

// Query tiles of heads [first, last), up to `together` in a task, the longest
// first so that the end of the op is not one thread's.
std::vector<Task> MakeTasks(const AttentionPlan& plan,
                            const AttentionForwardParams& p, int64_t first,
                            int64_t last, int64_t together) {
  std::vector<Task> tasks;
  for (const SegmentPlan& segment : plan.segments) {
    for (int64_t h = first; h < last; ++h) {
      const bool shifted = IsShifted(*p.pattern, p.q.shape[1], h);
      const std::vector<QueryTile>& queries = segment.queries[shifted];
      const auto tiles = static_cast<int64_t>(queries.size());
      for (int64_t i = 0; i < tiles; i += together) {
        tasks.push_back(
            {&segment, &queries[i], std::min(together, tiles - i), h});
      }
    }
  }
  std::stable_sort(
      tasks.begin(), tasks.end(),
      [](const Task& a, const Task& b) { return a.pairs() > b.pairs(); });
  return tasks;
}

}  // namespace

void AttentionForward(const AttentionForwardParams& p, CpuContext& context) {
  const int64_t head_dim = p.q.shape[2];
  const int64_t kv_heads = p.k.shape[1];
  const int64_t group = p.q.shape[1] / kv_heads;
  const AttentionPlan plan = MakePlan(*p.pattern);
  Panels panels(plan, p.k, p.v, {kKeysTransposed, kValueRows},
                ProductDType(p.product_dtype), 0, context);
  ZeroOutside(*p.pattern, p.out);
  if (!p.lse.empty()) ZeroLseOutside(*p.pattern, p.lse);
  const int64_t batch = panels.heads_per_batch();
  for (int64_t kv = 0; kv < kv_heads; kv += batch) {
    const int64_t count = std::min(batch, kv_heads - kv);
    panels.Pack(kv, count);
    const auto make = [&](int64_t together) {
      return MakeTasks(plan, p, kv * group, (kv + count) * group, together);
    };
    std::vector<Task> tasks = make(HWY_DYNAMIC_DISPATCH(MaxTogether)());
    const auto enough = static_cast<size_t>(8 * context.pool.num_threads());
    if (tasks.size() < enough) tasks = make(1);
    context.pool.Run(static_cast<int64_t>(tasks.size()), [&](int64_t i,
                                                             int thread) {
      float* scratch = context.thread_scratch[thread].Reserve<float>(
          HWY_DYNAMIC_DISPATCH(TaskFloats)(head_dim));
      const Task& task = tasks[i];
      HWY_DYNAMIC_DISPATCH(ForwardTiles)
      (p, *task.segment, task.queries, task.count, task.head, panels, scratch);
    });
  }
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
