// Attention forward on tensor cores: a block 128 queries of one head, a warp 32
// of them; keys and values stream past in tiles of 32 rows, the next pair on
// its way while one is worked on. Scores and weights stay in registers, sums
// are rescaled when the largest score grows (FlashAttention-2, 2307.08691).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_FORWARD_CUDA_INL_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_FORWARD_CUDA_INL_H_

#include <cstdint>

#include "kernels/attention/attention_pack_cuda-inl.h"
#include "kernels/attention/attention_tile_cuda-inl.h"
#include "kernels/attention/attention_work_cuda.h"
#include "kernels/cuda/device.h"

namespace sinklora::kernels::cuda {

// Which query tile and head block `blockIdx.x` has.
struct QueryGrid {
  const QueryWork* tiles;
  int plain_tiles, shifted_tiles;
  int plain_heads, shifted_heads;
  int group;  // heads of a kv head

  unsigned Blocks() const {
    return static_cast<unsigned>(plain_tiles * plain_heads +
                                 shifted_tiles * shifted_heads);
  }
  SINKLORA_DEVICE QueryWork Tile(int* head) const {
    int i = static_cast<int>(blockIdx.x);
    if (i < plain_tiles * plain_heads) {
      *head = i % plain_heads;
      return tiles[i / plain_heads];
    }
    i -= plain_tiles * plain_heads;
    *head = plain_heads + i % shifted_heads;
    return tiles[plain_tiles + i / shifted_heads];
  }
};

// Keys [begin, end) of one tile of a query tile's keys.
struct KeySpan {
  int begin, end;
};

// The tiles of kKeys keys that a query tile visits: sinks, then its own range.
template <int kKeys>
SINKLORA_DEVICE int SinkTiles(const QueryWork& w) {
  return (w.sink_end - w.sink_begin + kKeys - 1) / kKeys;
}
template <int kKeys>
SINKLORA_DEVICE int KeyTiles(const QueryWork& w) {
  return SinkTiles<kKeys>(w) +
         (w.begin + w.rows - w.key_begin + kKeys - 1) / kKeys;
}
template <int kKeys>
SINKLORA_DEVICE KeySpan KeyTileAt(const QueryWork& w, int i) {
  const int sink_tiles = SinkTiles<kKeys>(w);
  const bool sink = i < sink_tiles;
  const int first =
      sink ? w.sink_begin + i * kKeys : w.key_begin + (i - sink_tiles) * kKeys;
  const int limit = sink ? w.sink_end : w.begin + w.rows;
  return {first, first + kKeys < limit ? first + kKeys : limit};
}

struct ForwardArgs {
  ConstTokenRows q;
  const bf16_t* k;  // [kv_heads, tokens, D]
  const bf16_t* v;  // [kv_heads, tokens, D], finite
  Marks marks;      // of v
  TokenRows out;
  float* lse;  // [heads, tokens], rows lse_head apart; or null
  int64_t lse_head, tokens;
  int head_dim, window;
  float scale;
  QueryGrid grid;
};

template <int D>
struct ForwardTile {
  static constexpr int kQueries = 128;
  static constexpr int kKeys = 32;
  static constexpr int kM = kQueries / kTileWarps / 16;
  static constexpr int kN = kKeys / 8;
  using Shared = StreamShared<D, 1, kQueries, kKeys>;
};

// Scaled queries of the tile; rows and columns beyond become zeros.
template <int D, int kRows>
SINKLORA_DEVICE void LoadQueries(const ForwardArgs& a, const QueryWork& w,
                                 int head, bf16_t* tile) {
  constexpr int kUnits = D / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kUnits;
       i += kTileThreads) {
    const int row = i / kUnits;
    const int column = i % kUnits * 8;
    float x[8] = {};
    if (row < w.rows && column < a.head_dim) {
      LoadEight(a.q.Row(w.token + w.begin + row, head) + column, a.q.units, x);
    }
    SINKLORA_UNROLL
    for (int j = 0; j < 8; ++j) x[j] *= a.scale;
    *reinterpret_cast<uint4*>(tile + row * kRowStride<D> + column) =
        PackEight(x);
  }
}

// State of a warp's rows: those of a lane are 16 m + lane / 4 and 8 more.
template <int D>
struct ForwardState {
  using Tile = ForwardTile<D>;
  float sums[Tile::kM][D / 8][4];
  float top[Tile::kM][2];    // largest score so far
  float total[Tile::kM][2];  // of weights, this lane's columns

  SINKLORA_DEVICE void Reset() {
    SetZero<Tile::kM, D / 8>(sums);
    SINKLORA_UNROLL
    for (int m = 0; m < Tile::kM; ++m) {
      SINKLORA_UNROLL
      for (int half = 0; half < 2; ++half) {
        top[m][half] = -INFINITY;
        total[m][half] = 0.0f;
      }
    }
  }
};

// Scores outside the mask become -inf. `query` is the position of the lane's
// first row.
template <int kM, int kN>
SINKLORA_DEVICE void MaskScores(float scores[kM][kN][4], int query,
                                KeySpan keys, int window) {
  const int column = keys.begin + static_cast<int>(threadIdx.x) % 4 * 2;
  SINKLORA_UNROLL
  for (int m = 0; m < kM; ++m) {
    SINKLORA_UNROLL
    for (int n = 0; n < kN; ++n) {
      SINKLORA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = query + m * 16 + i / 2 * 8;
        const int key = column + n * 8 + i % 2;
        const bool seen = key < keys.end && key <= row && row - key < window;
        scores[m][n][i] = seen ? scores[m][n][i] : -INFINITY;
      }
    }
  }
}

// Scores become weights; sums so far are rescaled to the new largest score.
template <int D>
SINKLORA_DEVICE void SoftmaxStep(
    float scores[ForwardTile<D>::kM][ForwardTile<D>::kN][4],
    ForwardState<D>* state) {
  using Tile = ForwardTile<D>;
  SINKLORA_UNROLL
  for (int m = 0; m < Tile::kM; ++m) {
    SINKLORA_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float old_top = state->top[m][half];
      float top = old_top;
      SINKLORA_UNROLL
      for (int n = 0; n < Tile::kN; ++n) {
        top = fmaxf(top, scores[m][n][half * 2]);
        top = fmaxf(top, scores[m][n][half * 2 + 1]);
      }
      top = MaxOfLanes(top, 4);
      state->top[m][half] = top;
      // Nothing seen yet: any finite number makes weights 0.
      const float base = top == -INFINITY ? 0.0f : top * kLog2E;
      float total = 0.0f;
      SINKLORA_UNROLL
      for (int n = 0; n < Tile::kN; ++n) {
        SINKLORA_UNROLL
        for (int i = half * 2; i < half * 2 + 2; ++i) {
          scores[m][n][i] = Exp2(fmaf(scores[m][n][i], kLog2E, -base));
          total += scores[m][n][i];
        }
      }
      // Seldom, after the first tiles; times 1 would change no bit.
      if (Ballot(top != old_top) != 0) {
        const float factor =
            top == old_top ? 1.0f : Exp2(fmaf(old_top, kLog2E, -base));
        state->total[m][half] *= factor;
        SINKLORA_UNROLL
        for (int n = 0; n < D / 8; ++n) {
          state->sums[m][n][half * 2] *= factor;
          state->sums[m][n][half * 2 + 1] *= factor;
        }
      }
      state->total[m][half] += total;
    }
  }
}

// Rows that see a marked key become NaN. Values are marked next to never.
template <int D>
SINKLORA_DEVICE void FindBadRows(const ForwardArgs& a, int64_t first_mark,
                                 int query, KeySpan keys,
                                 ForwardState<D>* state) {
  for (int key = keys.begin; key < keys.end; ++key) {
    if (a.marks.bad[first_mark + key] == 0) continue;
    SINKLORA_UNROLL
    for (int m = 0; m < ForwardTile<D>::kM; ++m) {
      SINKLORA_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = query + m * 16 + half * 8;
        if (key <= row && row - key < a.window) state->total[m][half] = NAN;
      }
    }
  }
}

template <int D>
SINKLORA_DEVICE void FinishForward(const ForwardArgs& a, const QueryWork& w,
                                   int head, int query,
                                   const ForwardState<D>& state) {
  SINKLORA_UNROLL
  for (int m = 0; m < ForwardTile<D>::kM; ++m) {
    SINKLORA_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float total = SumOfLanes(state.total[m][half], 4);
      const int row = query + m * 16 + half * 8;
      if (row >= w.begin + w.rows) continue;
      const int64_t token = w.token + row;
      StoreRow<D>(state.sums[m], half, 1.0f / total, a.out.Row(token, head),
                  a.out.pairs, a.head_dim);
      if (a.lse != nullptr && threadIdx.x % 4 == 0) {
        a.lse[head * a.lse_head + token] = state.top[m][half] + logf(total);
      }
    }
  }
}

template <int D>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kTileThreads, 2)
    ForwardKernel(ForwardArgs a) {
  using Tile = ForwardTile<D>;
  int head;
  const QueryWork w = a.grid.Tile(&head);
  const int tiles = KeyTiles<Tile::kKeys>(w);
  const typename Tile::Shared shared;
  const int64_t kv_row =
      static_cast<int64_t>(head / a.grid.group) * a.tokens + w.token;
  const int warp_row =
      static_cast<int>(threadIdx.x) / kWarpThreads * 16 * Tile::kM;
  const int query =
      w.begin + warp_row + static_cast<int>(threadIdx.x) % kWarpThreads / 4;
  const bool any_marked = *a.marks.any != 0;
  const auto start = [&](int i) {
    const KeySpan span = KeyTileAt<Tile::kKeys>(w, i);
    const int64_t at = (kv_row + span.begin) * D;
    shared.StartStream(i % 2, a.k + at, a.v + at, span.end - span.begin);
  };
  start(0);
  CpAsyncCommit();
  LoadQueries<D, Tile::kQueries>(a, w, head, shared.Held(0));
  ForwardState<D> state;
  state.Reset();
  for (int i = 0; i < tiles; ++i) {
    CpAsyncWait<0>();
    SyncThreads();  // this pair is there; the last one is done with
    if (i + 1 < tiles) start(i + 1);
    CpAsyncCommit();
    float scores[Tile::kM][Tile::kN][4];
    SetZero<Tile::kM, Tile::kN>(scores);
    MultiplyRows<D, Tile::kM, Tile::kN>(
        scores, shared.Held(0) + warp_row * kRowStride<D>,
        shared.Stream(i % 2, 0));
    const KeySpan span = KeyTileAt<Tile::kKeys>(w, i);
    const bool all_seen = span.end - span.begin == Tile::kKeys &&
                          span.end - 1 <= w.begin &&
                          w.begin + Tile::kQueries - 1 - span.begin < a.window;
    if (!all_seen) {
      MaskScores<Tile::kM, Tile::kN>(scores, query, span, a.window);
    }
    if (any_marked) FindBadRows<D>(a, kv_row, query, span, &state);
    SoftmaxStep<D>(scores, &state);
    MultiplyWeights<D, Tile::kM, Tile::kN>(state.sums, scores,
                                           shared.Stream(i % 2, 1));
  }
  FinishForward<D>(a, w, head, query, state);
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_FORWARD_CUDA_INL_H_
