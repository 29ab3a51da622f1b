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
#include <vector>

#include "kernels/attention/attention_panels.h"
#include "kernels/attention/attention_plan.h"
#include "kernels/attention/attention_zero.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_backward_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/attention/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Buffers of one query tile in its thread's scratch.
struct BackwardBuffers {
  float* queries;        // [kTile][head_dim], scaled
  float* douts;          // [kTile][head_dim]
  float* dqueries;       // [kTile][head_dim]
  float* probabilities;  // [kTile][kTile]
  float* dscores;        // [kTile][kTile]
};

// What the visits of one (kv head, segment) read and write besides.
struct BackwardJob {
  const AttentionBackwardParams& p;
  const SegmentPlan& segment;
  const Panels& panels;
  const float* delta;  // [heads, tokens]: dout . out
  int64_t kv_head;
  bool wants_dq, wants_dkv;
};

BackwardBuffers BackwardBuffersIn(float* scratch, int64_t head_dim) {
  BackwardBuffers b;
  b.queries = scratch;
  b.douts = b.queries + kTile * head_dim;
  b.dqueries = b.douts + kTile * head_dim;
  b.probabilities = b.dqueries + kTile * head_dim;
  b.dscores = b.probabilities + kTile * kTile;
  return b;
}

// Of both.
int64_t BackwardFloats(int64_t head_dim) {
  return kTile * (5 * head_dim + 2 * kTile + 3 * kTile / 2);
}

// scores to probabilities and dprobabilities to dscores, 0 where masked.
HWY_INLINE void GradRow(float* scores, float* dscores, ColumnSpan span,
                        int64_t begin, int64_t limit, float lse, float delta) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  for (int64_t c = span.begin; c < span.end; c += lanes) {
    const auto mask = ColumnsIn(c, begin, limit);
    const F32Vec probability = hn::IfThenElseZero(
        mask, Exp(d, hn::Sub(hn::LoadU(d, scores + c), hn::Set(d, lse))));
    const F32Vec slope = hn::Sub(hn::LoadU(d, dscores + c), hn::Set(d, delta));
    hn::StoreU(probability, d, scores + c);
    hn::StoreU(hn::IfThenElseZero(mask, hn::Mul(probability, slope)), d,
               dscores + c);
  }
}

// out[c] += sum over rows of weights[r][c] * values[r], columns of the visit.
template <class D>
HWY_INLINE void AccumulateColumns(D d, const Visit& visit, const float* weights,
                                  const float* values, int64_t head_dim,
                                  float* out, int64_t out_stride) {
  const int64_t r = visit.first_row;
  const GemmTile<float> tile{weights + r * kTile + visit.begin,
                             1,
                             kTile,
                             values + r * head_dim,
                             head_dim,
                             out,
                             out_stride,
                             visit.end_row - r,
                             true};
  MicroGemm(d, tile, visit.end - visit.begin, head_dim);
}

// Scores and dprobabilities of a visit to probabilities and dscores.
HWY_INLINE void GradRows(const BackwardJob& job, const QueryTile& query,
                         int64_t head, const Visit& visit,
                         const BackwardBuffers& b) {
  const AttentionBackwardParams& p = job.p;
  const int64_t token = job.segment.segment.begin + query.begin;
  const ColumnSpan span = WidenToVectors(visit.begin, visit.end);
  const float* lse = At(p.lse, head) + token;
  const float* delta = job.delta + head * p.q.shape[0] + token;
  for (int64_t r = visit.first_row; r < visit.end_row; ++r) {
    GradRow(b.probabilities + r * kTile, b.dscores + r * kTile, span,
            visit.Begin(r), visit.Limit(r), lse[r], delta[r]);
  }
}

// The first key of a visit in the tensors.
HWY_INLINE int64_t KeyOf(const BackwardJob& job, const Visit& visit) {
  return job.segment.segment.begin + visit.tile * kTile + visit.begin;
}

template <class D>
HWY_INLINE void BackwardVisit(D d, const BackwardJob& job,
                              const QueryTile& query, int64_t head,
                              const Visit& visit, const BackwardBuffers& b) {
  const AttentionBackwardParams& p = job.p;
  const int64_t head_dim = p.q.shape[2];
  const int64_t tile = job.segment.first_key_tile + visit.tile;
  ScoreRows(visit, b.queries,
            job.panels.Get(kKeysTransposed, job.kv_head, tile), b.probabilities,
            head_dim);
  ScoreRows(visit, b.douts,
            job.panels.Get(kValuesTransposed, job.kv_head, tile), b.dscores,
            head_dim);
  GradRows(job, query, head, visit, b);
  if (job.wants_dq) {
    AccumulateRows(d, visit, b.dscores,
                   job.panels.Get(kKeyRows, job.kv_head, tile), head_dim,
                   b.dqueries, head_dim,
                   job.panels.Finite(kKeyRows, job.kv_head, tile));
  }
  if (!job.wants_dkv) return;
  const int64_t key = KeyOf(job, visit);
  AccumulateColumns(d, visit, b.probabilities, b.douts, head_dim,
                    At(p.dv, key, job.kv_head), p.dv.stride[0]);
  AccumulateColumns(d, visit, b.dscores, b.queries, head_dim,
                    At(p.dk, key, job.kv_head), p.dk.stride[0]);
}

#if HWY_TARGET == HWY_AVX3
// With bf16 products: pairs along head_dim, as the left sides of scores, and
// pairs of rows, as the right sides of dk and dv.
struct BackwardPairs {
  Bf16Pair* queries;           // [kTile][head_dim / 2], scaled
  Bf16Pair* douts;             // [kTile][head_dim / 2]
  Bf16Pair* query_rows;        // [kTile / 2][head_dim], scaled
  Bf16Pair* dout_rows;         // [kTile / 2][head_dim]
  Bf16Pair* dscores;           // [kTile][kTile / 2]
  Bf16Pair* probability_rows;  // [kTile / 2][kTile]
  Bf16Pair* dscore_rows;       // [kTile / 2][kTile]
};

// After the buffers of BackwardBuffersIn.
BackwardPairs BackwardPairsIn(float* scratch, int64_t head_dim) {
  auto* next =
      reinterpret_cast<Bf16Pair*>(scratch + kTile * (3 * head_dim + 2 * kTile));
  const auto take = [&next](int64_t pairs) {
    Bf16Pair* taken = next;
    next += pairs;
    return taken;
  };
  const int64_t rows = kTile * head_dim / 2;
  const int64_t square = kTile * kTile / 2;
  return {take(rows),   take(rows),   take(rows),  take(rows),
          take(square), take(square), take(square)};
}

// Rows 2i and 2i + 1 of `rows` side by side, those of the visit; zeros for the
// others.
HWY_INLINE void PairRows(const Visit& visit, const float* rows,
                         Bf16Pair* pairs) {
  const ColumnSpan span = WidenToVectors(visit.begin, visit.end);
  for (int64_t r = visit.first_row / 2 * 2; r < visit.end_row; r += 2) {
    const auto row = [&](int64_t i) {
      const bool visited = i >= visit.first_row && i < visit.end_row;
      return visited ? rows + i * kTile + span.begin : nullptr;
    };
    ToBf16Pairs(row(r), row(r + 1), 1.0f, pairs + r / 2 * kTile + span.begin,
                span.end - span.begin);
  }
}

// AccumulateColumns with pairs of rows.
HWY_INLINE void AccumulateColumnPairs(const Visit& visit,
                                      const Bf16Pair* weights,
                                      const Bf16Pair* values, int64_t head_dim,
                                      float* out, int64_t out_stride) {
  const Bf16GemmTile tile{
      weights + visit.begin, 1, kTile, values, head_dim, out, out_stride, true};
  Bf16Gemm(tile, visit.first_row, visit.end_row, visit.end - visit.begin,
           head_dim);
}

HWY_INLINE void BackwardVisitPairs(const BackwardJob& job,
                                   const QueryTile& query, int64_t head,
                                   const Visit& visit, const BackwardBuffers& b,
                                   const BackwardPairs& pairs) {
  const AttentionBackwardParams& p = job.p;
  const int64_t head_dim = p.q.shape[2];
  const int64_t tile = job.segment.first_key_tile + visit.tile;
  ScoreRowPairs(visit, pairs.queries,
                job.panels.GetPairs(kKeysTransposed, job.kv_head, tile),
                b.probabilities, head_dim);
  ScoreRowPairs(visit, pairs.douts,
                job.panels.GetPairs(kValuesTransposed, job.kv_head, tile),
                b.dscores, head_dim);
  GradRows(job, query, head, visit, b);
  if (job.wants_dq) {
    RoundRows(visit, b.dscores, pairs.dscores);
    AccumulateRowPairs(
        visit, pairs.dscores, job.panels.GetPairs(kKeyRows, job.kv_head, tile),
        b.dqueries, head_dim, job.panels.Finite(kKeyRows, job.kv_head, tile));
  }
  if (!job.wants_dkv) return;
  const int64_t key = KeyOf(job, visit);
  PairRows(visit, b.probabilities, pairs.probability_rows);
  AccumulateColumnPairs(visit, pairs.probability_rows, pairs.dout_rows,
                        head_dim, At(p.dv, key, job.kv_head), p.dv.stride[0]);
  PairRows(visit, b.dscores, pairs.dscore_rows);
  AccumulateColumnPairs(visit, pairs.dscore_rows, pairs.query_rows, head_dim,
                        At(p.dk, key, job.kv_head), p.dk.stride[0]);
}

// Rows of x, [tokens, heads, head_dim], as pairs of both kinds.
void LoadPairs(const ConstTensorView& x, int64_t token, int64_t rows,
               int64_t head, float factor, Bf16Pair* pairs,
               Bf16Pair* row_pairs) {
  const int64_t head_dim = x.shape[2];
  for (int64_t r = 0; r < rows; ++r) {
    ToBf16Row(At(x, token + r, head), factor,
              reinterpret_cast<bf16_t*>(pairs + r * (head_dim / 2)), head_dim);
  }
  for (int64_t r = 0; r < rows; r += 2) {
    ToBf16Pairs(At(x, token + r, head),
                r + 1 < rows ? At(x, token + r + 1, head) : nullptr, factor,
                row_pairs + r / 2 * head_dim, head_dim);
  }
}
#endif

// Loads the tile's rows and makes its visits to key tiles [first, last].
void BackwardVisits(const BackwardJob& job, const QueryTile& query,
                    int64_t head, int64_t first, int64_t last, float* scratch,
                    const BackwardBuffers& b) {
  const AttentionBackwardParams& p = job.p;
  const int64_t head_dim = p.q.shape[2];
  const int64_t token = job.segment.segment.begin + query.begin;
#if HWY_TARGET == HWY_AVX3
  if (job.panels.pairs()) {
    const BackwardPairs pairs = BackwardPairsIn(scratch, head_dim);
    LoadPairs(p.q, token, query.rows, head, p.scale, pairs.queries,
              pairs.query_rows);
    LoadPairs(p.dout, token, query.rows, head, 1.0f, pairs.douts,
              pairs.dout_rows);
    ForEachVisit(query, first, last, [&](const Visit& visit) {
      BackwardVisitPairs(job, query, head, visit, b, pairs);
    });
    return;
  }
#else
  (void)scratch;
#endif
  for (int64_t r = 0; r < query.rows; ++r) {
    ScaledCopy(At(p.q, token + r, head), p.scale, b.queries + r * head_dim,
               head_dim);
    std::memcpy(b.douts + r * head_dim, At(p.dout, token + r, head),
                head_dim * sizeof(float));
  }
  WithHeadTag(head_dim, [&](auto d) {
    ForEachVisit(query, first, last, [&](const Visit& visit) {
      BackwardVisit(d, job, query, head, visit, b);
    });
  });
}

// All visits of a query tile to key tiles [first, last].
void BackwardQueryTile(const BackwardJob& job, const QueryTile& query,
                       int64_t head, int64_t first, int64_t last,
                       float* scratch) {
  const AttentionBackwardParams& p = job.p;
  const int64_t head_dim = p.q.shape[2];
  const int64_t token = job.segment.segment.begin + query.begin;
  const BackwardBuffers b = BackwardBuffersIn(scratch, head_dim);
  if (job.wants_dq) {
    std::memset(b.dqueries, 0, query.rows * head_dim * sizeof(float));
  }
  BackwardVisits(job, query, head, first, last, scratch, b);
  for (int64_t r = 0; r < query.rows && job.wants_dq; ++r) {
    ScaledCopy(b.dqueries + r * head_dim, p.scale, At(p.dq, token + r, head),
               head_dim);
  }
}

// Every query tile of the kv head's query heads against key tiles [first,
// last].
void BackwardKeyTiles(const BackwardJob& job, int64_t first, int64_t last,
                      float* scratch) {
  const int64_t group = job.p.q.shape[1] / job.p.k.shape[1];
  for (int64_t h = job.kv_head * group; h < (job.kv_head + 1) * group; ++h) {
    const bool shifted = IsShifted(*job.p.pattern, job.p.q.shape[1], h);
    for (const QueryTile& query : job.segment.queries[shifted]) {
      bool visited = false;
      ForEachVisit(query, first, last, [&](const Visit&) { visited = true; });
      if (visited) BackwardQueryTile(job, query, h, first, last, scratch);
    }
  }
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
  BackwardQueryTile({p, segment, panels, delta, kv_head, true, false}, query,
                    head, 0, segment.key_tiles, scratch);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(BackwardFloats);
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
  float* ThreadScratch(int thread);

  const AttentionBackwardParams& p_;
  CpuContext& context_;
  const AttentionPlan plan_;
  Panels panels_;
  const int64_t group_;
};

float* Backward::ThreadScratch(int thread) {
  return context_.thread_scratch[thread].Reserve<float>(
      HWY_DYNAMIC_DISPATCH(BackwardFloats)(p_.q.shape[2]));
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

void Backward::Clear() {
  ParallelBlocks(context_.pool, p_.k.shape[0],
                 RowsPerTask(p_.k.shape[1] * p_.k.shape[2]),
                 [&](int64_t begin, int64_t end, int) {
                   ZeroTokens(p_.dk, begin, end);
                   ZeroTokens(p_.dv, begin, end);
                 });
  ZeroOutside(*p_.pattern, p_.dq);
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
                       s.segment->key_tiles, true, ThreadScratch(thread));
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
         tile, false, ThreadScratch(thread));
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
  context_.pool.Run(static_cast<int64_t>(tasks.size()),
                    [&](int64_t i, int thread) {
                      HWY_DYNAMIC_DISPATCH(RunQueryTile)
                      (p_, *tasks[i].segment, panels_, panels_.extra(),
                       tasks[i].head, *tasks[i].query, ThreadScratch(thread));
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
