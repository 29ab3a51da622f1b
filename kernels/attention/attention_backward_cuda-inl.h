// Attention backward on tensor cores, without atomics: query gradients by one
// block a query tile, key and value gradients by one block a key tile. Either
// holds two tiles of 64 rows in shared memory, a warp 16 rows of them, and
// streams pairs of tiles of 32 rows of the other side past them; the next pair
// is on its way while one is worked on.
//
// With P = exp(S - lse) and delta = rowsum(dout * out):
//   dS = P * (dout V^T - delta),  dQ = scale dS K,  dK = dS^T (scale Q),
//   dV = P^T dout.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_BACKWARD_CUDA_INL_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_BACKWARD_CUDA_INL_H_

#include <cstdint>

#include "kernels/attention/attention_forward_cuda-inl.h"
#include "kernels/attention/attention_tile_cuda-inl.h"
#include "kernels/attention/attention_work_cuda.h"
#include "kernels/cuda/device.h"

namespace sinklora::kernels::cuda {

struct BackwardArgs {
  // Packed, all finite. [heads or kv_heads, tokens, D]
  const bf16_t* q;  // scaled
  const bf16_t* dout;
  const bf16_t* k;
  const bf16_t* v;
  const float* lse;    // [heads, tokens], times log2(e)
  const float* delta;  // [heads, tokens]
  TokenRows dq, dk, dv;
  int64_t tokens;
  int heads, kv_heads, head_dim, window;
  int plain_heads;  // the others are shifted
  float scale;
  QueryGrid grid;       // of query gradients
  const KeyWork* keys;  // of key gradients: a block (x, kv head y)
  float* partials;      // [partials, kv_heads, 2 (dk, dv), held rows, D]
};

template <int D>
struct BackwardTile {
  static constexpr int kHeld = 64;    // rows
  static constexpr int kStream = 32;  // rows
  static constexpr int kN = kStream / 8;
  using Shared = StreamShared<D, 2, kHeld, kStream>;
};

// Starts copies of both held tiles.
template <int D>
SINKLORA_DEVICE void StartHeld(const typename BackwardTile<D>::Shared& shared,
                               const bf16_t* first, const bf16_t* second,
                               int rows) {
  StartTile<D, BackwardTile<D>::kHeld>(shared.Held(0), first, rows);
  StartTile<D, BackwardTile<D>::kHeld>(shared.Held(1), second, rows);
}

SINKLORA_DEVICE int WarpRow() {
  return static_cast<int>(threadIdx.x) / kWarpThreads * 16;
}
// The lane's first row of a warp's 16; the second is 8 further.
SINKLORA_DEVICE int LaneRow() {
  return WarpRow() + static_cast<int>(threadIdx.x) % kWarpThreads / 4;
}
// The lane's first column of 8; the second follows.
SINKLORA_DEVICE int LaneColumn() {
  return static_cast<int>(threadIdx.x) % 4 * 2;
}

// Scores and gradients of probabilities become gradients of scores; rows are
// queries.
template <int D>
SINKLORA_DEVICE void QueryScoreGradients(
    const float scores[1][BackwardTile<D>::kN][4],
    float gradients[1][BackwardTile<D>::kN][4], const float lse[2],
    const float delta[2], int query, KeySpan keys, int window, bool all_seen) {
  SINKLORA_UNROLL
  for (int n = 0; n < BackwardTile<D>::kN; ++n) {
    SINKLORA_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = query + i / 2 * 8;
      const int key = keys.begin + n * 8 + LaneColumn() + i % 2;
      const float p = Exp2(fmaf(scores[0][n][i], kLog2E, -lse[i / 2]));
      const bool seen =
          all_seen || (key < keys.end && key <= row && row - key < window);
      gradients[0][n][i] =
          seen ? p * (gradients[0][n][i] - delta[i / 2]) : 0.0f;
    }
  }
}

template <int D>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kTileThreads, 3)
    QueryGradientKernel(BackwardArgs a) {
  using Tile = BackwardTile<D>;
  int head;
  const QueryWork w = a.grid.Tile(&head);
  const int tiles = KeyTiles<Tile::kStream>(w);
  const typename Tile::Shared shared;
  const int64_t kv_row =
      static_cast<int64_t>(head / a.grid.group) * a.tokens + w.token;
  const int64_t first_row = head * a.tokens + w.token + w.begin;
  const auto start = [&](int i) {
    const KeySpan span = KeyTileAt<Tile::kStream>(w, i);
    const int64_t at = (kv_row + span.begin) * D;
    shared.StartStream(i % 2, a.k + at, a.v + at, span.end - span.begin);
  };
  StartHeld<D>(shared, a.q + first_row * D, a.dout + first_row * D, w.rows);
  start(0);
  CpAsyncCommit();
  float lse[2], delta[2];
  for (int half = 0; half < 2; ++half) {
    const int row = LaneRow() + half * 8;
    lse[half] = row < w.rows ? a.lse[first_row + row] : 0.0f;
    delta[half] = row < w.rows ? a.delta[first_row + row] : 0.0f;
  }
  float sums[1][D / 8][4];
  SetZero<1, D / 8>(sums);
  for (int i = 0; i < tiles; ++i) {
    CpAsyncWait<0>();
    SyncThreads();  // this pair is there; the last one is done with
    if (i + 1 < tiles) start(i + 1);
    CpAsyncCommit();
    const bf16_t* keys = shared.Stream(i % 2, 0);
    const bf16_t* values = shared.Stream(i % 2, 1);
    const int at = WarpRow() * kRowStride<D>;
    float scores[1][Tile::kN][4], gradients[1][Tile::kN][4];
    SetZero<1, Tile::kN>(scores);
    SetZero<1, Tile::kN>(gradients);
    MultiplyRows<D, 1, Tile::kN>(scores, shared.Held(0) + at, keys);
    MultiplyRows<D, 1, Tile::kN>(gradients, shared.Held(1) + at, values);
    const KeySpan span = KeyTileAt<Tile::kStream>(w, i);
    const bool all_seen = span.end - span.begin == Tile::kStream &&
                          span.end - 1 <= w.begin &&
                          w.begin + Tile::kHeld - 1 - span.begin < a.window;
    QueryScoreGradients<D>(scores, gradients, lse, delta, w.begin + LaneRow(),
                           span, a.window, all_seen);
    MultiplyWeights<D, 1, Tile::kN>(sums, gradients, keys);
  }
  for (int half = 0; half < 2; ++half) {
    const int row = LaneRow() + half * 8;
    if (row >= w.rows) continue;
    StoreRow<D>(sums[0], half, a.scale, a.dq.Row(w.token + w.begin + row, head),
                a.dq.pairs, a.head_dim);
  }
}

// A walk over the query tiles of all heads of a kv head that see a key tile:
// head by head, in order.
struct QueryWalk {
  int head, query;  // of the tile it is at
  int last_head, begin, plain_heads;
  int plain_end, shifted_end;

  SINKLORA_DEVICE QueryWalk(const KeyWork& w, int first_head, int group,
                            int plain)
      : head(first_head),
        query(w.query_begin),
        last_head(first_head + group - 1),
        begin(w.query_begin),
        plain_heads(plain),
        plain_end(w.query_end[0]),
        shifted_end(w.query_end[1]) {}

  SINKLORA_DEVICE int End() const {
    return head < plain_heads ? plain_end : shifted_end;
  }
  SINKLORA_DEVICE bool Done() const { return head > last_head; }
  SINKLORA_DEVICE void Next(int rows) {
    query += rows;
    if (query < End()) return;
    ++head;
    query = begin;
  }
};

// Scores become probabilities, and gradients of probabilities those of scores;
// rows are keys, columns queries. A lane of the warp brings lse and delta of
// the query that is its number.
template <int D>
SINKLORA_DEVICE void KeyScoreGradients(
    float scores[1][BackwardTile<D>::kN][4],
    float gradients[1][BackwardTile<D>::kN][4], float lse, float delta, int key,
    int key_end, int query, int query_end, int window, bool all_seen) {
  SINKLORA_UNROLL
  for (int n = 0; n < BackwardTile<D>::kN; ++n) {
    SINKLORA_UNROLL
    for (int j = 0; j < 2; ++j) {
      const int column = n * 8 + LaneColumn() + j;
      const float column_lse = Shuffle(lse, column);
      const float column_delta = Shuffle(delta, column);
      const int at = query + column;
      SINKLORA_UNROLL
      for (int i = j; i < 4; i += 2) {
        const int row = key + i / 2 * 8;
        const bool seen = all_seen || (row < key_end && at < query_end &&
                                       row <= at && at - row < window);
        const float p = Exp2(fmaf(scores[0][n][i], kLog2E, -column_lse));
        scores[0][n][i] = seen ? p : 0.0f;
        gradients[0][n][i] =
            seen ? p * (gradients[0][n][i] - column_delta) : 0.0f;
      }
    }
  }
}

// Rows of dk (i = 0) or dv (1): the result or a partial sum.
template <int D>
SINKLORA_DEVICE void StoreKeyGradients(const BackwardArgs& a, const KeyWork& w,
                                       int kv_head, int i,
                                       const float sums[1][D / 8][4]) {
  constexpr int kHeld = BackwardTile<D>::kHeld;
  for (int half = 0; half < 2; ++half) {
    const int row = LaneRow() + half * 8;
    if (row >= w.rows) continue;
    if (w.partial >= 0) {
      const int64_t tile =
          (static_cast<int64_t>(w.partial) * a.kv_heads + kv_head) * 2 + i;
      StoreRow<D>(sums[0], half, 1.0f, a.partials + (tile * kHeld + row) * D,
                  true, D);
    } else {
      const TokenRows& to = i == 0 ? a.dk : a.dv;
      StoreRow<D>(sums[0], half, 1.0f, to.Row(w.token + w.begin + row, kv_head),
                  to.pairs, a.head_dim);
    }
  }
}

template <int D>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kTileThreads, 2)
    KeyGradientKernel(BackwardArgs a) {
  using Tile = BackwardTile<D>;
  const KeyWork w = a.keys[blockIdx.x];
  const int kv_head = static_cast<int>(blockIdx.y);
  const int group = a.heads / a.kv_heads;
  const typename Tile::Shared shared;
  const int64_t first_row = kv_head * a.tokens + w.token + w.begin;
  QueryWalk next(w, kv_head * group, group, a.plain_heads);
  int stage = 0;
  const auto start = [&] {
    const int64_t at = (next.head * a.tokens + w.token + next.query) * D;
    shared.StartStream(stage, a.q + at, a.dout + at, next.End() - next.query);
  };
  StartHeld<D>(shared, a.k + first_row * D, a.v + first_row * D, w.rows);
  start();
  CpAsyncCommit();
  float dk[1][D / 8][4], dv[1][D / 8][4];
  SetZero<1, D / 8>(dk);
  SetZero<1, D / 8>(dv);
  while (!next.Done()) {
    const QueryWalk now = next;
    // Saved sums of the queries, one a lane.
    const int own = now.query + static_cast<int>(threadIdx.x) % kWarpThreads;
    const int64_t own_row = now.head * a.tokens + w.token + own;
    const float lse = own < now.End() ? a.lse[own_row] : 0.0f;
    const float delta = own < now.End() ? a.delta[own_row] : 0.0f;
    next.Next(Tile::kStream);
    CpAsyncWait<0>();
    SyncThreads();  // this pair is there; the last one is done with
    const bf16_t* queries = shared.Stream(stage, 0);
    const bf16_t* douts = shared.Stream(stage, 1);
    stage ^= 1;
    if (!next.Done()) start();
    CpAsyncCommit();
    const int at = WarpRow() * kRowStride<D>;
    float scores[1][Tile::kN][4], gradients[1][Tile::kN][4];
    SetZero<1, Tile::kN>(scores);
    SetZero<1, Tile::kN>(gradients);
    MultiplyRows<D, 1, Tile::kN>(scores, shared.Held(0) + at, queries);
    MultiplyRows<D, 1, Tile::kN>(gradients, shared.Held(1) + at, douts);
    const bool all_seen = w.rows == Tile::kHeld &&
                          now.query + Tile::kStream <= now.End() &&
                          w.begin + Tile::kHeld - 1 <= now.query &&
                          now.query + Tile::kStream - 1 - w.begin < a.window;
    KeyScoreGradients<D>(scores, gradients, lse, delta, w.begin + LaneRow(),
                         w.begin + w.rows, now.query, now.End(), a.window,
                         all_seen);
    MultiplyWeights<D, 1, Tile::kN>(dv, scores, douts);
    MultiplyWeights<D, 1, Tile::kN>(dk, gradients, queries);
  }
  StoreKeyGradients<D>(a, w, kv_head, 0, dk);
  StoreKeyGradients<D>(a, w, kv_head, 1, dv);
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_BACKWARD_CUDA_INL_H_
