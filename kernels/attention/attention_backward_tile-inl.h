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

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/attention/attention_panels.h"
#include "kernels/attention/attention_plan.h"
#include "kernels/attention/attention_tile-inl.h"
#include "kernels/attention/pair_columns.h"
#include "kernels/attention/pair_softmax.h"
#include "kernels/cpu/rows.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {

// Buffers of one query tile in its thread's scratch. With pairs, pair_dim is in
// place of head_dim.
struct BackwardBuffers {
  float* dqueries;       // [kTile][head_dim]
  float* probabilities;  // [kTile][kTile]
  float* dscores;        // [kTile][kTile]
  float* queries;        // [kTile][head_dim], scaled
  float* douts;          // [kTile][head_dim]
};

// What the visits of one (kv head, segment) read and write besides.
struct BackwardJob {
  const AttentionBackwardParams& p;
  const SegmentPlan& segment;
  const Panels& panels;
  const float* delta;  // [heads, tokens]: dout . out
  int64_t kv_head;
  bool wants_dq, wants_dkv;

  // Of a row of dqueries.
  int64_t RowFloats() const {
    return panels.pairs() ? panels.pair_dim() : p.q.shape[2];
  }
};

HWY_INLINE BackwardBuffers BackwardBuffersIn(float* scratch, int64_t head_dim) {
  const int64_t rows = kTile * PaddedHeadDim(head_dim);
  BackwardBuffers b;
  b.dqueries = scratch;
  b.probabilities = b.dqueries + rows;
  b.dscores = b.probabilities + kTile * kTile;
  b.queries = b.dscores + kTile * kTile;
  b.douts = b.queries + rows;
  return b;
}

// Of these and of BackwardPairs.
HWY_INLINE int64_t BackwardFloats(int64_t head_dim) {
  return kTile * (5 * PaddedHeadDim(head_dim) + 2 * kTile + 3 * kTile / 2);
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
  Bf16Pair* queries;           // [kTile][pair_dim / 2]
  Bf16Pair* douts;             // [kTile][pair_dim / 2]
  Bf16Pair* query_rows;        // [kTile / 2][pair_dim], scaled
  Bf16Pair* dout_rows;         // [kTile / 2][pair_dim]
  Bf16Pair* query_columns;     // [pair_dim][kTile / 2], scaled
  Bf16Pair* dout_columns;      // [pair_dim][kTile / 2]
  Bf16Pair* dscores;           // [kTile][kTile / 2]
  Bf16Pair* probability_rows;  // [kTile / 2][kTile]
  Bf16Pair* dscore_rows;       // [kTile / 2][kTile]
};

// After the buffers of BackwardBuffersIn, in place of queries and douts. Rows
// are for products in vectors, columns for those in tiles.
HWY_INLINE BackwardPairs BackwardPairsIn(float* scratch, int64_t head_dim) {
  auto* next =
      reinterpret_cast<Bf16Pair*>(BackwardBuffersIn(scratch, head_dim).queries);
  const auto take = [&next](int64_t pairs) {
    Bf16Pair* taken = next;
    next += pairs;
    return taken;
  };
  const int64_t rows = kTile * PaddedHeadDim(head_dim) / 2;
  const int64_t square = kTile * kTile / 2;
  BackwardPairs pairs;
  pairs.queries = take(rows);
  pairs.douts = take(rows);
  pairs.query_rows = pairs.query_columns = take(rows);
  pairs.dout_rows = pairs.dout_columns = take(rows);
  pairs.dscores = take(square);
  pairs.probability_rows = take(square);
  pairs.dscore_rows = take(square);
  return pairs;
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

// The same in tiles, where the left side is what need not be turned for each
// visit: sums[i][c] += sum over rows of columns[i][r] * weights[r][c].
// `sums`: [pair_dim][kTile].
HWY_INLINE void AccumulateTurned(const Visit& visit, const Bf16Pair* columns,
                                 const Bf16Pair* weights, int64_t pair_dim,
                                 float* sums) {
  for (int64_t i = 0; i < pair_dim; i += kTile) {
    const Bf16GemmTile tile{columns + i * (kTile / 2),
                            kTile / 2,
                            1,
                            weights + visit.begin,
                            kTile,
                            sums + i * kTile + visit.begin,
                            kTile,
                            true};
    AmxTileGemm(tile, visit.first_row, visit.end_row,
                std::min(kTile, pair_dim - i), visit.end - visit.begin);
  }
}

// The shares of a visit in dk and dv. `turned_dkv`: those of the key tile with
// tiles, [2][pair_dim][kTile].
HWY_INLINE void AccumulateKeyPairs(const BackwardJob& job, const Visit& visit,
                                   const BackwardPairs& pairs,
                                   float* turned_dkv) {
  const AttentionBackwardParams& p = job.p;
  if (job.panels.in_tiles()) {
    const int64_t pair_dim = job.panels.pair_dim();
    AccumulateTurned(visit, pairs.query_columns, pairs.dscore_rows, pair_dim,
                     turned_dkv);
    AccumulateTurned(visit, pairs.dout_columns, pairs.probability_rows,
                     pair_dim, turned_dkv + pair_dim * kTile);
    return;
  }
  const int64_t head_dim = p.q.shape[2];
  const int64_t key = KeyOf(job, visit);
  AccumulateColumnPairs(visit, pairs.probability_rows, pairs.dout_rows,
                        head_dim, At(p.dv, key, job.kv_head), p.dv.stride[0]);
  AccumulateColumnPairs(visit, pairs.dscore_rows, pairs.query_rows, head_dim,
                        At(p.dk, key, job.kv_head), p.dk.stride[0]);
}

HWY_INLINE void BackwardVisitPairs(const BackwardJob& job,
                                   const QueryTile& query, int64_t head,
                                   const Visit& visit, const BackwardBuffers& b,
                                   const BackwardPairs& pairs,
                                   float* turned_dkv) {
  const AttentionBackwardParams& p = job.p;
  const PairProducts products{job.panels.in_tiles()};
  const int64_t pair_dim = job.panels.pair_dim();
  const int64_t tile = job.segment.first_key_tile + visit.tile;
  ScoreRowPairs(products, visit, pairs.queries,
                job.panels.GetPairs(kKeysTransposed, job.kv_head, tile),
                b.probabilities, pair_dim);
  ScoreRowPairs(products, visit, pairs.douts,
                job.panels.GetPairs(kValuesTransposed, job.kv_head, tile),
                b.dscores, pair_dim);
  const int64_t token = job.segment.segment.begin + query.begin;
  PairGradientRows(visit, b.probabilities, b.dscores, At(p.lse, head) + token,
                   job.delta + head * p.q.shape[0] + token,
                   ExponentFactor(p.scale),
                   {job.wants_dq ? pairs.dscores : nullptr,
                    job.wants_dkv ? pairs.probability_rows : nullptr,
                    job.wants_dkv ? pairs.dscore_rows : nullptr});
  if (job.wants_dq) {
    AccumulateRowPairs(products, visit, pairs.dscores,
                       job.panels.GetPairs(kKeyRows, job.kv_head, tile),
                       b.dqueries, pair_dim,
                       job.panels.Finite(kKeyRows, job.kv_head, tile));
  }
  if (job.wants_dkv) AccumulateKeyPairs(job, visit, pairs, turned_dkv);
}

// The rows of x, [tokens, heads, head_dim], of a query tile, times `factor`, as
// the right side of dk and dv: rows side by side, or columns for tiles.
HWY_INLINE void LoadRowPairs(const BackwardJob& job, const ConstTensorView& x,
                             int64_t token, int64_t rows, int64_t head,
                             float factor, Bf16Pair* row_pairs) {
  const int64_t head_dim = x.shape[2];
  const auto row = [&](int64_t r) {
    return r < rows ? At(x, token + r, head) : nullptr;
  };
  if (job.panels.in_tiles()) {
    PairColumns(At(x, token, head), x.stride[0], rows, head_dim,
                job.panels.pair_dim(), factor, row_pairs);
    return;
  }
  for (int64_t r = 0; r < rows; r += 2) {
    ToBf16Pairs(row(r), row(r + 1), factor, row_pairs + r / 2 * head_dim,
                head_dim);
  }
}

// Turned dk and dv of a key tile to where they belong.
HWY_INLINE void StoreTurned(const BackwardJob& job, int64_t tile,
                            const float* turned_dkv) {
  const AttentionBackwardParams& p = job.p;
  const AttentionSegment& segment = job.segment.segment;
  const int64_t head_dim = p.q.shape[2];
  const int64_t keys = std::min(kTile, segment.length - tile * kTile);
  const int64_t token = segment.begin + tile * kTile;
  StoreColumns(turned_dkv, keys, head_dim, At(p.dk, token, job.kv_head),
               p.dk.stride[0]);
  StoreColumns(turned_dkv + job.panels.pair_dim() * kTile, keys, head_dim,
               At(p.dv, token, job.kv_head), p.dv.stride[0]);
}

HWY_INLINE void LoadPairs(const BackwardJob& job, int64_t token, int64_t rows,
                          int64_t head, const BackwardPairs& pairs) {
  const AttentionBackwardParams& p = job.p;
  const int64_t head_dim = p.q.shape[2];
  const int64_t pair_dim = job.panels.pair_dim();
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = r * (pair_dim / 2);
    AskForRowAhead(At(p.q, token + r, head), p.q.stride[0], head_dim);
    AskForRowAhead(At(p.dout, token + r, head), p.dout.stride[0], head_dim);
    LoadScoreRow(At(p.q, token + r, head), p.scale, head_dim, pair_dim,
                 pairs.queries + at);
    LoadScoreRow(At(p.dout, token + r, head), 1.0f, head_dim, pair_dim,
                 pairs.douts + at);
  }
  if (!job.wants_dkv) return;
  LoadRowPairs(job, p.q, token, rows, head, p.scale, pairs.query_rows);
  LoadRowPairs(job, p.dout, token, rows, head, 1.0f, pairs.dout_rows);
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_BACKWARD_TILE_INL_H_
