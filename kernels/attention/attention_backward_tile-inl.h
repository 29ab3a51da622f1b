// One visit (query tile x key tile) of backward attention, with f32 products
// and with bf16 pairs: attention_backward_cpu.cc says what it computes and who
// makes the visits. Included once per target.
//
// SPDX-License-Identifier: Apache-2.0
#if defined(SINKLORA_KERNELS_ATTENTION_ATTENTION_BACKWARD_TILE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SINKLORA_KERNELS_ATTENTION_ATTENTION_BACKWARD_TILE_INL_H_
#undef SINKLORA_KERNELS_ATTENTION_ATTENTION_BACKWARD_TILE_INL_H_
#else
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_BACKWARD_TILE_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/attention/attention_panels.h"
#include "kernels/attention/attention_plan.h"
#include "kernels/attention/attention_tile-inl.h"
#include "kernels/cpu/rows.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {

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

HWY_INLINE BackwardBuffers BackwardBuffersIn(float* scratch, int64_t head_dim) {
  BackwardBuffers b;
  b.queries = scratch;
  b.douts = b.queries + kTile * head_dim;
  b.dqueries = b.douts + kTile * head_dim;
  b.probabilities = b.dqueries + kTile * head_dim;
  b.dscores = b.probabilities + kTile * kTile;
  return b;
}

// Of both.
HWY_INLINE int64_t BackwardFloats(int64_t head_dim) {
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
HWY_INLINE BackwardPairs BackwardPairsIn(float* scratch, int64_t head_dim) {
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
HWY_INLINE void AccumulateColumnPairs(PairProducts products, const Visit& visit,
                                      const Bf16Pair* weights,
                                      const Bf16Pair* values, int64_t head_dim,
                                      float* out, int64_t out_stride) {
  const Bf16GemmTile tile{
      weights + visit.begin, 1, kTile, values, head_dim, out, out_stride, true};
  products.Gemm(tile, visit.first_row, visit.end_row, visit.end - visit.begin,
                head_dim);
}

HWY_INLINE void BackwardVisitPairs(PairProducts products,
                                   const BackwardJob& job,
                                   const QueryTile& query, int64_t head,
                                   const Visit& visit, const BackwardBuffers& b,
                                   const BackwardPairs& pairs) {
  const AttentionBackwardParams& p = job.p;
  const int64_t head_dim = p.q.shape[2];
  const int64_t tile = job.segment.first_key_tile + visit.tile;
  ScoreRowPairs(products, visit, pairs.queries,
                job.panels.GetPairs(kKeysTransposed, job.kv_head, tile),
                b.probabilities, head_dim);
  ScoreRowPairs(products, visit, pairs.douts,
                job.panels.GetPairs(kValuesTransposed, job.kv_head, tile),
                b.dscores, head_dim);
  GradRows(job, query, head, visit, b);
  if (job.wants_dq) {
    RoundRows(visit, b.dscores, pairs.dscores);
    AccumulateRowPairs(products, visit, pairs.dscores,
                       job.panels.GetPairs(kKeyRows, job.kv_head, tile),
                       b.dqueries, head_dim,
                       job.panels.Finite(kKeyRows, job.kv_head, tile));
  }
  if (!job.wants_dkv) return;
  const int64_t key = KeyOf(job, visit);
  PairRows(visit, b.probabilities, pairs.probability_rows);
  AccumulateColumnPairs(products, visit, pairs.probability_rows,
                        pairs.dout_rows, head_dim, At(p.dv, key, job.kv_head),
                        p.dv.stride[0]);
  PairRows(visit, b.dscores, pairs.dscore_rows);
  AccumulateColumnPairs(products, visit, pairs.dscore_rows, pairs.query_rows,
                        head_dim, At(p.dk, key, job.kv_head), p.dk.stride[0]);
}

// Rows of x, [tokens, heads, head_dim], as pairs of both kinds.
HWY_INLINE void LoadPairs(const ConstTensorView& x, int64_t token, int64_t rows,
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

}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_BACKWARD_TILE_INL_H_
