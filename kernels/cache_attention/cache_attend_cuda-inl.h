// Serving attention on CUDA: the sums of one tile of slots, and their folding
// over tiles in ascending order, in one block (many rows) or after one block a
// tile (few rows). A tile that a row sees nothing of changes no bit of it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ATTEND_CUDA_INL_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ATTEND_CUDA_INL_H_

#include <cstdint>

#include "kernels/cache_attention/cache_tile_cuda-inl.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/device_util.h"

namespace sinklora::kernels::cuda {

inline constexpr float kScoreFactor = 1.44269504088896341f;  // log2(e)
inline constexpr float kNatural = 0.693147180559945309f;     // ln(2)
inline constexpr int kMaxSums = 2;  // elements of a row a thread folds

struct CacheOut {
  float* out;  // [tokens, heads, head_dim]
  int64_t out_token, out_head;
  float* lse;  // [heads, tokens], rows lse_head apart; or null
  int64_t lse_head;
  float* states;         // [kv_heads, rows, 2]: top and total of a row; or null
  DeviceFaults* faults;  // for rows that see nothing; or null
  ValueCheck check;
};

// What a row has got from the tiles so far: weights are 2^(score - top).
struct RowState {
  float top = -INFINITY;
  float total = 0.0f;

  // Takes in a tile's. The sums so far count times *kept, those of the tile
  // times *added.
  SINKLORA_DEVICE void Fold(float tile_top, float tile_total, float* kept,
                            float* added) {
    const float new_top = fmaxf(top, tile_top);
    *kept = top == new_top ? 1.0f : Exp2(top - new_top);
    *added = tile_top == new_top ? 1.0f : Exp2(tile_top - new_top);
    total = fmaf(tile_total, *added, total * *kept);
    top = new_top;
  }
};

// Shared memory of a block. `sums` lies where keys were.
template <typename T, int kRows>
struct CacheShared {
  float* queries;  // [kRows, head_dim]
  float* weights;  // [kRows, kSlotTile]
  float* tops;     // [kSlotWarps, kRows]
  float* totals;   // [kSlotWarps, kRows]
  int* seen;       // [kSlotTile]: by some row
  T* keys;         // [kSlotTile, KeyStride]
  float* sums;     // [parts, kRows, head_dim]

  SINKLORA_DEVICE explicit CacheShared(int head_dim) {
    queries = DynamicShared<float>();
    weights = queries + kRows * head_dim;
    tops = weights + kRows * kSlotTile;
    totals = tops + kSlotWarps * kRows;
    seen = reinterpret_cast<int*>(totals + kSlotWarps * kRows);
    keys = reinterpret_cast<T*>(seen + kSlotTile);
    sums = reinterpret_cast<float*>(keys);
  }
};

template <typename T, int kRows>
int64_t CacheSharedBytes(int head_dim) {
  const int64_t units =
      ((head_dim * int64_t{sizeof(T)} + 15) / 16) | int64_t{1};
  // A thread has a pair of sums a row.
  const int64_t sums = int64_t{kRows} * 2 * kSlotTile * 4;
  const int64_t keys = kSlotTile * units * 16;
  return int64_t{4} * (kRows * head_dim + kRows * kSlotTile +
                       2 * kSlotWarps * kRows + kSlotTile) +
         (keys > sums ? keys : sums);
}

// Scores become weights in shared memory; tops[r] and totals[r] are the tile's.
template <typename T, int kRows>
SINKLORA_DEVICE void WeighSlot(const CacheArgs& a, int kv_head, int first_row,
                               int slot, const CacheShared<T, kRows>& shared,
                               float scores[kRows], float tops[kRows],
                               float totals[kRows]) {
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarpThreads;
  const int stored = SlotPosition(a, kv_head, slot);
  bool seen = false;
  SINKLORA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const bool sees = SeesSlot(a, first_row + r, stored);
    seen = seen || sees;
    if (!sees) scores[r] = -INFINITY;
    const float top = MaxOfLanes(scores[r]);
    if (thread % kWarpThreads == 0) shared.tops[warp * kRows + r] = top;
  }
  shared.seen[thread] = seen ? 1 : 0;
  SyncThreads();
  const float v_scale = a.v.scale != nullptr && seen
                            ? a.v.scale[kv_head * a.v.scale_head + slot]
                            : 1.0f;
  SINKLORA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    float top = shared.tops[r];
    for (int w = 1; w < kSlotWarps; ++w) {
      top = fmaxf(top, shared.tops[w * kRows + r]);
    }
    tops[r] = top;
    const float weight = Exp2(scores[r] - (top == -INFINITY ? 0.0f : top));
    const float total = SumOfLanes(weight);
    if (thread % kWarpThreads == 0) shared.totals[warp * kRows + r] = total;
    shared.weights[r * kSlotTile + thread] = weight * v_scale;
  }
  SyncThreads();
  SINKLORA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    float total = shared.totals[r];
    for (int w = 1; w < kSlotWarps; ++w) {
      total += shared.totals[w * kRows + r];
    }
    totals[r] = total;
  }
}

// sums[part][r] = weights times values of a part of the slots; a thread has a
// pair of elements of one part.
template <typename T, int kRows>
SINKLORA_DEVICE void SumValues(const CacheArgs& a, int kv_head, int first,
                               const CacheShared<T, kRows>& shared) {
  const int pairs = a.head_dim / 2;
  const int parts = kSlotTile / pairs;
  const int part = static_cast<int>(threadIdx.x) / pairs;
  const int d = static_cast<int>(threadIdx.x) % pairs * 2;
  if (part >= parts) return;
  const T* values = static_cast<const T*>(a.v.data) + kv_head * a.v.head +
                    first * a.v.slot + d;
  float2 acc[kRows];
  SINKLORA_UNROLL
  for (int r = 0; r < kRows; ++r) acc[r] = make_float2(0.0f, 0.0f);
  SINKLORA_UNROLL_BY(8)
  for (int slot = part; slot < kSlotTile; slot += parts) {
    // What nobody sees may be anything.
    const float2 v = shared.seen[slot] != 0
                         ? LoadPair(values + slot * a.v.slot, a.v.pairs)
                         : make_float2(0.0f, 0.0f);
    SINKLORA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float weight = shared.weights[r * kSlotTile + slot];
      acc[r].x = fmaf(weight, v.x, acc[r].x);
      acc[r].y = fmaf(weight, v.y, acc[r].y);
    }
  }
  SINKLORA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    float* to = shared.sums + (part * kRows + r) * a.head_dim + d;
    to[0] = acc[r].x;
    to[1] = acc[r].y;
  }
}

// Element d of row r of the tile's sums, over parts in order.
template <typename T, int kRows>
SINKLORA_DEVICE float TileSum(const CacheArgs& a,
                              const CacheShared<T, kRows>& shared, int r,
                              int d) {
  const int parts = kSlotTile / (a.head_dim / 2);
  float sum = shared.sums[r * a.head_dim + d];
  for (int part = 1; part < parts; ++part) {
    sum += shared.sums[(part * kRows + r) * a.head_dim + d];
  }
  return sum;
}

// The whole of one tile; keys must have been started. `scores` are those of the
// thread's slot, -inf where a row does not see it. Ends with a barrier.
template <typename T, int kRows>
SINKLORA_DEVICE void AttendTile(const CacheArgs& a, int kv_head, int first_row,
                                int first, const CacheShared<T, kRows>& shared,
                                float scores[kRows], float tops[kRows],
                                float totals[kRows]) {
  CpAsyncWait<0>();
  SyncThreads();
  const int slot = first + static_cast<int>(threadIdx.x);
  ScoreSlot<T, kRows>(a, kv_head, slot, shared.queries, shared.keys, scores);
  WeighSlot<T, kRows>(a, kv_head, first_row, slot, shared, scores, tops,
                      totals);
  SumValues<T, kRows>(a, kv_head, first, shared);
  SyncThreads();
}

SINKLORA_DEVICE void StoreCacheRow(const CacheArgs& a, const CacheOut& out,
                                   int kv_head, int row, const RowState& state,
                                   const float sums[kMaxSums]) {
  const int token = a.Token(row);
  const int head = a.Head(kv_head, row);
  float* to = out.out + token * out.out_token + head * out.out_head;
  SINKLORA_UNROLL
  for (int i = 0; i < kMaxSums; ++i) {
    const int d = static_cast<int>(threadIdx.x) + i * kSlotTile;
    if (d < a.head_dim) to[d] = sums[i] * (1.0f / state.total);
  }
  if (threadIdx.x != 0) return;
  if (out.lse != nullptr) {
    out.lse[head * out.lse_head + token] =
        fmaf(state.top, kNatural, logf(state.total));
  }
  if (out.states != nullptr) {
    float* saved =
        out.states + (static_cast<int64_t>(kv_head) * a.rows + row) * 2;
    saved[0] = state.top;
    saved[1] = state.total;
  }
  if (out.faults != nullptr && state.total == 0.0f) {
    NoteFault(out.faults, out.check, token,
              static_cast<uint32_t>(a.Position(token)), kv_head);
  }
}

// Block (kRows rows, kv head): all tiles.
template <typename T, int kRows>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kSlotTile, 2)
    CacheRowsKernel(CacheArgs a, CacheOut out) {
  const int first_row = static_cast<int>(blockIdx.x) * kRows;
  const int kv_head = static_cast<int>(blockIdx.y);
  const CacheShared<T, kRows> shared(a.head_dim);
  LoadQueryRows<kRows>(a, kv_head, first_row, kScoreFactor, shared.queries);
  RowState states[kRows];
  float sums[kRows][kMaxSums] = {};
  for (int first = 0; first < a.used; first += kSlotTile) {
    StartKeys<T>(a, kv_head, first, shared.keys);
    CpAsyncCommit();
    float scores[kRows], tops[kRows], totals[kRows];
    AttendTile<T, kRows>(a, kv_head, first_row, first, shared, scores, tops,
                         totals);
    SINKLORA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float kept, added;
      states[r].Fold(tops[r], totals[r], &kept, &added);
      SINKLORA_UNROLL
      for (int i = 0; i < kMaxSums; ++i) {
        const int d = static_cast<int>(threadIdx.x) + i * kSlotTile;
        if (d >= a.head_dim) break;
        sums[r][i] =
            fmaf(TileSum<T, kRows>(a, shared, r, d), added, sums[r][i] * kept);
      }
    }
    SyncThreads();  // the next keys come where the sums are
  }
  SINKLORA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (first_row + r < a.rows) {
      StoreCacheRow(a, out, kv_head, first_row + r, states[r], sums[r]);
    }
  }
}

// Sums of one row of one tile: top, total, head_dim sums.
SINKLORA_DEVICE float* PartialOf(const CacheArgs& a, float* partials, int tiles,
                                 int kv_head, int row, int tile) {
  return partials +
         ((static_cast<int64_t>(kv_head) * a.rows + row) * tiles + tile) *
             (a.head_dim + 2);
}

// Of rows [first_row, first_row + kRows) against tile `tile` of `tiles`.
template <typename T, int kRows>
SINKLORA_DEVICE void StoreTile(const CacheArgs& a, int tile, int tiles,
                               int first_row, int kv_head, float* partials,
                               float* scores_out /* [kv_heads, rows, used] */) {
  const int first = tile * kSlotTile;
  const CacheShared<T, kRows> shared(a.head_dim);
  StartKeys<T>(a, kv_head, first, shared.keys);
  CpAsyncCommit();
  LoadQueryRows<kRows>(a, kv_head, first_row, kScoreFactor, shared.queries);
  float scores[kRows], tops[kRows], totals[kRows];
  AttendTile<T, kRows>(a, kv_head, first_row, first, shared, scores, tops,
                       totals);
  SINKLORA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (first_row + r >= a.rows) break;
    float* to = PartialOf(a, partials, tiles, kv_head, first_row + r, tile);
    if (threadIdx.x == 0) {
      to[0] = tops[r];
      to[1] = totals[r];
    }
    const int slot = first + static_cast<int>(threadIdx.x);
    if (scores_out != nullptr && slot < a.used) {
      scores_out[(static_cast<int64_t>(kv_head) * a.rows + first_row + r) *
                     a.used +
                 slot] = scores[r];
    }
    for (int d = static_cast<int>(threadIdx.x); d < a.head_dim;
         d += kSlotTile) {
      to[2 + d] = TileSum<T, kRows>(a, shared, r, d);
    }
  }
}

// One row of a kv head from its tiles.
SINKLORA_DEVICE void CombineTiles(const CacheArgs& a, const CacheOut& out,
                                  int row, int kv_head, float* partials,
                                  int tiles) {
  RowState state;
  float sums[kMaxSums] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    const float* from = PartialOf(a, partials, tiles, kv_head, row, tile);
    float kept, added;
    state.Fold(from[0], from[1], &kept, &added);
    SINKLORA_UNROLL
    for (int i = 0; i < kMaxSums; ++i) {
      const int d = static_cast<int>(threadIdx.x) + i * kSlotTile;
      if (d < a.head_dim) sums[i] = fmaf(from[2 + d], added, sums[i] * kept);
    }
  }
  StoreCacheRow(a, out, kv_head, row, state, sums);
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ATTEND_CUDA_INL_H_
