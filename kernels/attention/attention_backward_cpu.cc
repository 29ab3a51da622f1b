// Backward training attention. One visit (query tile x key tile) recomputes the
// probabilities from the saved log-sum-exp and yields its share of dq, dk and
// dv.
//
// Two ways to spread visits over threads. "Whole": a task is one (kv head,
// segment) and does everything in one sweep, 5 tile products a visit. "Split":
// tasks over key tiles for dk and dv, then over query tiles for dq, 7 products
// but many more tasks. Both add to an element of dq, dk, dv in the same order
// (head, query tile, key tile ascending), so they give the same bits and the
// choice may follow the number of threads.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/attention/attention_panels.h"
#include "kernels/attention/attention_plan.h"
#include "kernels/attention/attention_zero.h"
#include "kernels/attention/pair_columns.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_backward_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/attention/attention_backward_tile-inl.h"
#include "kernels/attention/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Loads the rows of a query tile.
void LoadRows(const BackwardJob& job, const QueryTile& query, int64_t head,
              float* scratch) {
  const AttentionBackwardParams& p = job.p;
  const int64_t head_dim = p.q.shape[2];
  const int64_t token = job.segment.segment.begin + query.begin;
  const BackwardBuffers b = BackwardBuffersIn(scratch, head_dim);
  if (job.wants_dq) {
    std::memset(b.dqueries, 0, query.rows * job.RowFloats() * sizeof(float));
  }
#if HWY_TARGET == HWY_AVX3
  if (job.panels.pairs()) {
    LoadPairs(job, token, query.rows, head, BackwardPairsIn(scratch, head_dim));
    return;
  }
#endif
  for (int64_t r = 0; r < query.rows; ++r) {
    ScaledCopy(At(p.q, token + r, head), p.scale, b.queries + r * head_dim,
               head_dim);
    std::memcpy(b.douts + r * head_dim, At(p.dout, token + r, head),
                head_dim * sizeof(float));
  }
}

// The visits of a loaded query tile to one key tile. `turned_dkv`: see
// AccumulateKeyPairs.
void VisitKeyTile(const BackwardJob& job, const QueryTile& query, int64_t head,
                  int64_t tile, float* turned_dkv, float* scratch) {
  const int64_t head_dim = job.p.q.shape[2];
  const BackwardBuffers b = BackwardBuffersIn(scratch, head_dim);
#if HWY_TARGET == HWY_AVX3
  if (job.panels.pairs()) {
    const BackwardPairs pairs = BackwardPairsIn(scratch, head_dim);
    ForEachVisit(query, tile, tile, [&](const Visit& visit) {
      BackwardVisitPairs(job, query, head, visit, b, pairs, turned_dkv);
    });
    return;
  }
#endif
  (void)turned_dkv;
  WithHeadTag(head_dim, [&](auto d) {
    ForEachVisit(query, tile, tile, [&](const Visit& visit) {
      BackwardVisit(d, job, query, head, visit, b);
    });
  });
}

// Query tiles of one head that visit the key tiles together, so that these come
// from memory once for all of them. An element is added to in the order it
// would have alone: of dk and dv, query tiles ascend; of dq, key tiles do.
constexpr int64_t kMaxTogether = 4;
struct Together {
  const QueryTile* queries[kMaxTogether];
  int64_t count = 0;
};

// All their visits to key tiles [first, last]. `turned_dkv`: of these, or null.
void BackwardQueryTiles(const BackwardJob& job, const Together& together,
                        int64_t head, int64_t first, int64_t last,
                        float* turned_dkv, float* scratch) {
  const AttentionBackwardParams& p = job.p;
  const int64_t head_dim = p.q.shape[2];
  const int64_t floats = BackwardFloats(head_dim);
  for (int64_t i = 0; i < together.count; ++i) {
    LoadRows(job, *together.queries[i], head, scratch + i * floats);
  }
  for (int64_t tile = first; tile <= last; ++tile) {
    float* turned =
        turned_dkv == nullptr
            ? nullptr
            : turned_dkv + (tile - first) * TurnedFloats(job.panels.pair_dim());
    for (int64_t i = 0; i < together.count; ++i) {
      VisitKeyTile(job, *together.queries[i], head, tile, turned,
                   scratch + i * floats);
    }
  }
  for (int64_t i = 0; i < together.count && job.wants_dq; ++i) {
    const QueryTile& query = *together.queries[i];
    const int64_t token = job.segment.segment.begin + query.begin;
    const BackwardBuffers b = BackwardBuffersIn(scratch + i * floats, head_dim);
    for (int64_t r = 0; r < query.rows; ++r) {
      ScaledCopy(b.dqueries + r * job.RowFloats(), p.scale,
                 At(p.dq, token + r, head), head_dim);
    }
  }
}

// Every query tile of the kv head's query heads against key tiles [first,
// last].
void VisitKeyTiles(const BackwardJob& job, int64_t first, int64_t last,
                   float* turned_dkv, float* scratch) {
  const int64_t group = job.p.q.shape[1] / job.p.k.shape[1];
  for (int64_t h = job.kv_head * group; h < (job.kv_head + 1) * group; ++h) {
    const bool shifted = IsShifted(*job.p.pattern, job.p.q.shape[1], h);
    Together together;
    for (const QueryTile& query : job.segment.queries[shifted]) {
      bool visits = false;
      ForEachVisit(query, first, last, [&](const Visit&) { visits = true; });
      if (!visits) continue;
      together.queries[together.count++] = &query;
      if (together.count < kMaxTogether) continue;
      BackwardQueryTiles(job, together, h, first, last, turned_dkv, scratch);
      together.count = 0;
    }
    if (together.count == 0) continue;
    BackwardQueryTiles(job, together, h, first, last, turned_dkv, scratch);
  }
}

// Scratch of the query tiles of a task.
int64_t SweepFloats(int64_t head_dim) {
  return kMaxTogether * BackwardFloats(head_dim);
}

// dk and dv of key tiles [first, last], all of them.
void BackwardKeyTiles(const BackwardJob& job, int64_t first, int64_t last,
                      float* scratch) {
#if HWY_TARGET == HWY_AVX3
  if (job.panels.in_tiles()) {
    const TileScope tiles;
    const int64_t floats = TurnedFloats(job.panels.pair_dim());
    float* turned_dkv = scratch + SweepFloats(job.p.q.shape[2]);
    std::memset(turned_dkv, 0, (last + 1 - first) * floats * sizeof(float));
    VisitKeyTiles(job, first, last, turned_dkv, scratch);
    for (int64_t tile = first; tile <= last; ++tile) {
      StoreTurned(job, tile, turned_dkv + (tile - first) * floats);
    }
    return;
  }
#endif
  VisitKeyTiles(job, first, last, nullptr, scratch);
}

float DotRow(const float* a, const float* b, int64_t n) {
  const F32Tag d;
  F32Vec sum = hn::Zero(d);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    sum = hn::MulAdd(lanes.Load(d, a + i), lanes.Load(d, b + i), sum);
  });
  return Sum(d, sum);
}

// Interface of the dispatched kernels, which cannot share structs across
// targets.
void RunKeyTiles(const AttentionBackwardParams& p, const SegmentPlan& segment,
                 const Panels& panels, const float* delta, int64_t kv_head,
                 int64_t first, int64_t last, bool wants_dq, float* scratch) {
  BackwardKeyTiles({p, segment, panels, delta, kv_head, wants_dq, true}, first,
                   last, scratch);
}

void RunQueryTile(const AttentionBackwardParams& p, const SegmentPlan& segment,
                  const Panels& panels, const float* delta, int64_t head,
                  const QueryTile& query, float* scratch) {
  const int64_t kv_head = head * p.k.shape[1] / p.q.shape[1];
  std::optional<TileScope> tiles;
  if (panels.in_tiles()) tiles.emplace();
  BackwardQueryTiles({p, segment, panels, delta, kv_head, true, false},
                     {{&query}, 1}, head, 0, segment.key_tiles - 1, nullptr,
                     scratch);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(SweepFloats);
HWY_EXPORT(DotRow);
HWY_EXPORT(RunKeyTiles);
HWY_EXPORT(RunQueryTile);

namespace {

// Tile products of a visit in either way, see above.
constexpr int64_t kWholeProducts = 5;
constexpr int64_t kSplitProducts = 7;

class Backward {
 public:
  Backward(const AttentionBackwardParams& p, CpuContext& context)
      : p_(p),
        context_(context),
        plan_(MakePlan(*p.pattern)),
        panels_(plan_, p.k, p.v, {kKeysTransposed, kValuesTransposed, kKeyRows},
                ProductDType(p.product_dtype), p.q.shape[1] * p.q.shape[0],
                context),
        group_(p.q.shape[1] / p.k.shape[1]) {}

  void Run();

 private:
  struct Sweep {  // one (kv head, segment)
    const SegmentPlan* segment;
    int64_t kv_head;
    int64_t pairs;
  };

  void ComputeDelta();
  void Clear();
  std::vector<Sweep> Sweeps(int64_t first_head, int64_t heads) const;
  bool PreferWhole(const std::vector<Sweep>& sweeps) const;
  void RunWhole(const std::vector<Sweep>& sweeps);
  void RunSplitKeys(const std::vector<Sweep>& sweeps);
  void RunSplitQueries(const std::vector<Sweep>& sweeps);
  // Of a task that owns dk and dv of `key_tiles`.
  float* ThreadScratch(int thread, int64_t key_tiles);

  const AttentionBackwardParams& p_;
  CpuContext& context_;
  const AttentionPlan plan_;
  Panels panels_;
  const int64_t group_;
};

float* Backward::ThreadScratch(int thread, int64_t key_tiles) {
  const int64_t turned =
      panels_.in_tiles() ? key_tiles * TurnedFloats(panels_.pair_dim()) : 0;
  return context_.thread_scratch[thread].Reserve<float>(
      HWY_DYNAMIC_DISPATCH(SweepFloats)(p_.q.shape[2]) + turned);
}

void Backward::ComputeDelta() {
  const int64_t tokens = p_.q.shape[0];
  const int64_t heads = p_.q.shape[1];
  const int64_t head_dim = p_.q.shape[2];
  ParallelBlocks(context_.pool, tokens, RowsPerTask(heads * head_dim),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = begin; t < end; ++t) {
                     for (int64_t h = 0; h < heads; ++h) {
                       panels_.extra()[h * tokens + t] =
                           HWY_DYNAMIC_DISPATCH(DotRow)(
                               At(p_.dout, t, h), At(p_.out, t, h), head_dim);
                     }
                   }
                 });
}

// What is added to, or belongs to no segment.
void Backward::Clear() {
  ZeroOutside(*p_.pattern, p_.dq);
  if (panels_.in_tiles()) {
    ZeroOutside(*p_.pattern, p_.dk);
    ZeroOutside(*p_.pattern, p_.dv);
    return;
  }
  ParallelBlocks(context_.pool, p_.k.shape[0],
                 RowsPerTask(p_.k.shape[1] * p_.k.shape[2]),
                 [&](int64_t begin, int64_t end, int) {
                   ZeroTokens(p_.dk, begin, end);
                   ZeroTokens(p_.dv, begin, end);
                 });
}

std::vector<Backward::Sweep> Backward::Sweeps(int64_t first_head,
                                              int64_t heads) const {
  std::vector<Sweep> sweeps;
  for (int64_t kv = first_head; kv < first_head + heads; ++kv) {
    for (const SegmentPlan& segment : plan_.segments) {
      Sweep sweep{&segment, kv, 0};
      for (int64_t h = kv * group_; h < (kv + 1) * group_; ++h) {
        sweep.pairs +=
            LivePairsOfHead(*p_.pattern, segment.segment,
                            IsShifted(*p_.pattern, p_.q.shape[1], h));
      }
      sweeps.push_back(sweep);
    }
  }
  std::stable_sort(
      sweeps.begin(), sweeps.end(),
      [](const Sweep& a, const Sweep& b) { return a.pairs > b.pairs; });
  return sweeps;
}

// Length of the schedule either way; sweeps are handed out longest first.
bool Backward::PreferWhole(const std::vector<Sweep>& sweeps) const {
  const int threads = context_.pool.num_threads();
  std::vector<int64_t> load(threads, 0);
  int64_t total = 0;
  for (const Sweep& sweep : sweeps) {
    *std::min_element(load.begin(), load.end()) += sweep.pairs;
    total += sweep.pairs;
  }
  return kWholeProducts * *std::max_element(load.begin(), load.end()) <=
         kSplitProducts * (total / threads);
}

void Backward::RunWhole(const std::vector<Sweep>& sweeps) {
  context_.pool.Run(static_cast<int64_t>(sweeps.size()),
                    [&](int64_t i, int thread) {
                      const Sweep& s = sweeps[i];
                      HWY_DYNAMIC_DISPATCH(RunKeyTiles)
                      (p_, *s.segment, panels_, panels_.extra(), s.kv_head, 0,
                       s.segment->key_tiles - 1, true,
                       ThreadScratch(thread, s.segment->key_tiles));
                    });
}

void Backward::RunSplitKeys(const std::vector<Sweep>& sweeps) {
  struct Task {
    const Sweep* sweep;
    int64_t tile;
  };
  std::vector<Task> tasks;
  for (const Sweep& sweep : sweeps) {
    for (int64_t t = 0; t < sweep.segment->key_tiles; ++t) {
      tasks.push_back({&sweep, t});
    }
  }
  context_.pool.Run(
      static_cast<int64_t>(tasks.size()), [&](int64_t i, int thread) {
        const auto& [sweep, tile] = tasks[i];
        HWY_DYNAMIC_DISPATCH(RunKeyTiles)
        (p_, *sweep->segment, panels_, panels_.extra(), sweep->kv_head, tile,
         tile, false, ThreadScratch(thread, 1));
      });
}

void Backward::RunSplitQueries(const std::vector<Sweep>& sweeps) {
  struct Task {
    const SegmentPlan* segment;
    const QueryTile* query;
    int64_t head;
  };
  std::vector<Task> tasks;
  for (const Sweep& sweep : sweeps) {
    for (int64_t h = sweep.kv_head * group_; h < (sweep.kv_head + 1) * group_;
         ++h) {
      const bool shifted = IsShifted(*p_.pattern, p_.q.shape[1], h);
      for (const QueryTile& query : sweep.segment->queries[shifted]) {
        tasks.push_back({sweep.segment, &query, h});
      }
    }
  }
  context_.pool.Run(
      static_cast<int64_t>(tasks.size()), [&](int64_t i, int thread) {
        HWY_DYNAMIC_DISPATCH(RunQueryTile)
        (p_, *tasks[i].segment, panels_, panels_.extra(), tasks[i].head,
         *tasks[i].query, ThreadScratch(thread, 0));
      });
}

void Backward::Run() {
  ComputeDelta();
  Clear();
  const int64_t kv_heads = p_.k.shape[1];
  const int64_t batch = panels_.heads_per_batch();
  for (int64_t kv = 0; kv < kv_heads; kv += batch) {
    const int64_t count = std::min(batch, kv_heads - kv);
    panels_.Pack(kv, count);
    const std::vector<Sweep> sweeps = Sweeps(kv, count);
    if (PreferWhole(sweeps)) {
      RunWhole(sweeps);
    } else {
      RunSplitKeys(sweeps);
      RunSplitQueries(sweeps);
    }
  }
}

}  // namespace

void AttentionBackward(const AttentionBackwardParams& p, CpuContext& context) {
  Backward(p, context).Run();
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
