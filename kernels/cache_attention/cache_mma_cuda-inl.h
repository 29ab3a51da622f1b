// Serving attention on tensor cores: the tiles of training's
// (attention_forward_cuda-inl.h), over slots instead of tokens. Which slots a
// row sees is in their positions.
//
// The rows of a kv head are those of cache_tile_cuda-inl.h. What a row gets
// does not depend on the rows beside it, and tiles of slots begin at the same
// slots for all, so that chunks of any size have the same bits.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_MMA_CUDA_INL_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_MMA_CUDA_INL_H_

#include <cstdint>

#include "kernels/attention/attention_forward_cuda-inl.h"
#include "kernels/attention/attention_tile_cuda-inl.h"
#include "kernels/cache_attention/cache_tile_cuda-inl.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/device_util.h"

namespace sinklora::kernels::cuda {

// Slots, or rows against slots that stay, which stream past at a time.
inline constexpr int kMmaStream = 32;
// Rows, or slots, that stay.
inline constexpr int kMmaHeld = 128;
static_assert(ForwardTile<64>::kQueries == kMmaHeld &&
              ForwardTile<64>::kKeys == kMmaStream && kTileThreads == kMmaHeld);

// The least and the largest position of some slots or rows; -1 is none.
struct PositionRange {
  int least, most;
};

struct CacheMmaArgs {
  CacheArgs cache;  // what is not packed
  const bf16_t* q;  // [kv_heads, rows, D], scaled
  const bf16_t* k;  // [kv_heads, used, D]
  const bf16_t* v;  // [kv_heads, used, D], finite
  Marks marks;      // of v
  // [kv_heads, tiles of kMmaStream slots]
  const PositionRange* ranges;

  SINKLORA_DEVICE const bf16_t* Queries(int kv_head, int row, int dim) const {
    return q + (static_cast<int64_t>(kv_head) * cache.rows + row) * dim;
  }
  SINKLORA_DEVICE int64_t Slot(int kv_head, int slot) const {
    return static_cast<int64_t>(kv_head) * cache.used + slot;
  }
  SINKLORA_DEVICE int RowPosition(int row) const {
    return row < cache.rows ? cache.Position(cache.Token(row)) : -1;
  }
  // Whether a row at `position` sees a slot that holds `stored`.
  SINKLORA_DEVICE bool Sees(int position, int stored) const {
    return stored >= 0 && stored <= position &&
           (cache.window == 0 || position - stored < cache.window);
  }
  // Whether none of the rows sees any of the slots, as far as ranges tell.
  SINKLORA_DEVICE bool NoneSeen(PositionRange rows, PositionRange slots) const {
    return slots.most < 0 || slots.least > rows.most ||
           (cache.window > 0 && rows.least - slots.most >= cache.window);
  }
  SINKLORA_DEVICE bool AllSeen(PositionRange rows, PositionRange slots) const {
    return Sees(rows.least, slots.most) && Sees(rows.most, slots.least);
  }
};

SINKLORA_DEVICE PositionRange Joined(PositionRange a, PositionRange b) {
  return {a.least < b.least ? a.least : b.least,
          a.most > b.most ? a.most : b.most};
}
// Over a warp.
SINKLORA_DEVICE PositionRange RangeOfLanes(int position) {
  PositionRange range{position, position};
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    range = Joined(
        range, {ShuffleXor(range.least, mask), ShuffleXor(range.most, mask)});
  }
  return range;
}

// Rows of a block of CacheForwardKernel, and what they look at next.
struct CacheRowTile {
  int kv_head, first, rows;
  const int* positions;  // [kMmaHeld] in shared memory; -1 beyond the rows
  PositionRange range;   // of the rows

  // The first tile behind `tile` of which some row may see something.
  SINKLORA_DEVICE int NextTile(const CacheMmaArgs& a, int tile,
                               int tiles) const {
    const PositionRange* ranges =
        a.ranges + static_cast<int64_t>(kv_head) * tiles;
    do {
      ++tile;
    } while (tile < tiles && a.NoneSeen(range, ranges[tile]));
    return tile;
  }
};

// Positions of rows [first, first + kMmaHeld) to shared memory, and their
// range.
SINKLORA_DEVICE CacheRowTile LoadRowTile(const CacheMmaArgs& a, int kv_head,
                                         int first, int* positions) {
  const int left = a.cache.rows - first;
  CacheRowTile tile{
      kv_head, first, left < kMmaHeld ? left : kMmaHeld, positions, {}};
  positions[threadIdx.x] = a.RowPosition(first + static_cast<int>(threadIdx.x));
  SyncThreads();
  tile.range = {positions[0], positions[0]};
  for (int row = 1; row < tile.rows; ++row) {
    tile.range = Joined(tile.range, {positions[row], positions[row]});
  }
  return tile;
}

// Scores of slots that a row does not see become -inf. `positions` begins with
// the lane's first row, `first` is the tile's first slot.
template <int kM, int kN>
SINKLORA_DEVICE void MaskSlots(const CacheMmaArgs& a, int kv_head, int first,
                               const int* positions, float scores[kM][kN][4]) {
  const int column = first + static_cast<int>(threadIdx.x) % 4 * 2;
  SINKLORA_UNROLL
  for (int n = 0; n < kN; ++n) {
    SINKLORA_UNROLL
    for (int j = 0; j < 2; ++j) {
      const int stored = SlotPosition(a.cache, kv_head, column + n * 8 + j);
      SINKLORA_UNROLL
      for (int m = 0; m < kM; ++m) {
        SINKLORA_UNROLL
        for (int i = j; i < 4; i += 2) {
          const int position = positions[m * 16 + i / 2 * 8];
          if (!a.Sees(position, stored)) scores[m][n][i] = -INFINITY;
        }
      }
    }
  }
}

// Rows that see a marked value become NaN. Values are marked next to never.
template <int D>
SINKLORA_DEVICE void FindBadSlots(const CacheMmaArgs& a, int kv_head, int first,
                                  const int* positions,
                                  ForwardState<D>* state) {
  for (int slot = first; slot < first + kMmaStream; ++slot) {
    if (slot >= a.cache.used || a.marks.bad[a.Slot(kv_head, slot)] == 0) {
      continue;
    }
    const int stored = SlotPosition(a.cache, kv_head, slot);
    SINKLORA_UNROLL
    for (int m = 0; m < ForwardTile<D>::kM; ++m) {
      SINKLORA_UNROLL
      for (int half = 0; half < 2; ++half) {
        if (a.Sees(positions[m * 16 + half * 8], stored)) {
          state->total[m][half] = NAN;
        }
      }
    }
  }
}

struct CacheMmaOut {
  TokenRows out;
  float* lse;  // [heads, tokens], rows lse_head apart; or null
  int64_t lse_head;
  DeviceFaults* faults;  // for rows that see nothing
};

// `row`: the lane's first one.
template <int D>
SINKLORA_DEVICE void FinishRows(const CacheArgs& a, const CacheMmaOut& out,
                                int kv_head, int row,
                                const ForwardState<D>& state) {
  SINKLORA_UNROLL
  for (int m = 0; m < ForwardTile<D>::kM; ++m) {
    SINKLORA_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float total = SumOfLanes(state.total[m][half], 4);
      const int at = row + m * 16 + half * 8;
      if (at >= a.rows) continue;
      const int token = a.Token(at);
      const int head = a.Head(kv_head, at);
      StoreRow<D>(state.sums[m], half, 1.0f / total, out.out.Row(token, head),
                  out.out.pairs, a.head_dim);
      if (threadIdx.x % 4 != 0) continue;
      if (out.lse != nullptr) {
        out.lse[head * out.lse_head + token] = state.top[m][half] + logf(total);
      }
      if (total == 0.0f) {
        NoteFault(out.faults, ValueCheck::kCacheAttentionPosition, token,
                  static_cast<uint32_t>(a.Position(token)), kv_head);
      }
    }
  }
}

// Block (kMmaHeld rows, kv head).
template <int D>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kTileThreads, 2)
    CacheForwardKernel(CacheMmaArgs a, CacheMmaOut out) {
  using Tile = ForwardTile<D>;
  SINKLORA_SHARED(int[kMmaHeld], positions);
  const typename Tile::Shared shared;
  const int tiles = (a.cache.used + kMmaStream - 1) / kMmaStream;
  const CacheRowTile rows =
      LoadRowTile(a, static_cast<int>(blockIdx.y),
                  static_cast<int>(blockIdx.x) * kMmaHeld, positions);
  const int warp_row =
      static_cast<int>(threadIdx.x) / kWarpThreads * 16 * Tile::kM;
  const int lane_row =
      warp_row + static_cast<int>(threadIdx.x) % kWarpThreads / 4;
  const bool any_marked = *a.marks.any != 0;
  const auto start = [&](int tile, int stage) {
    const int first = tile * kMmaStream;
    const int64_t at = a.Slot(rows.kv_head, first) * D;
    shared.StartStream(stage, a.k + at, a.v + at, a.cache.used - first);
  };
  StartTile<D, kMmaHeld>(shared.Held(0), a.Queries(rows.kv_head, rows.first, D),
                         rows.rows);
  int tile = rows.NextTile(a, -1, tiles);
  if (tile < tiles) start(tile, 0);
  CpAsyncCommit();
  ForwardState<D> state;
  state.Reset();
  for (int stage = 0; tile < tiles; stage ^= 1) {
    CpAsyncWait<0>();
    SyncThreads();  // this pair is there; the last one is done with
    const int next = rows.NextTile(a, tile, tiles);
    if (next < tiles) start(next, stage ^ 1);
    CpAsyncCommit();
    float scores[Tile::kM][Tile::kN][4];
    SetZero<Tile::kM, Tile::kN>(scores);
    MultiplyRows<D, Tile::kM, Tile::kN>(
        scores, shared.Held(0) + warp_row * kRowStride<D>,
        shared.Stream(stage, 0));
    const int first = tile * kMmaStream;
    if (!a.AllSeen(rows.range, a.ranges[rows.kv_head * tiles + tile])) {
      MaskSlots<Tile::kM, Tile::kN>(a, rows.kv_head, first,
                                    positions + lane_row, scores);
    }
    if (any_marked) {
      FindBadSlots<D>(a, rows.kv_head, first, positions + lane_row, &state);
    }
    SoftmaxStep<D>(scores, &state);
    MultiplyWeights<D, Tile::kM, Tile::kN>(state.sums, scores,
                                           shared.Stream(stage, 1));
    tile = next;
  }
  CpAsyncWait<0>();  // of the rows, where there was no tile
  FinishRows<D>(a.cache, out, rows.kv_head, rows.first + lane_row, state);
}

// Scores [slots, rows] of a warp become probabilities. A lane brings position
// and lse (times log2(e)) of the row that is its number.
template <int kM, int kN>
SINKLORA_DEVICE void ColumnProbabilities(const CacheMmaArgs& a, int position,
                                         float lse, const int stored[kM][2],
                                         float scores[kM][kN][4]) {
  SINKLORA_UNROLL
  for (int n = 0; n < kN; ++n) {
    SINKLORA_UNROLL
    for (int j = 0; j < 2; ++j) {
      const int column = n * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + j;
      const int row_position = Shuffle(position, column);
      const float row_lse = Shuffle(lse, column);
      SINKLORA_UNROLL
      for (int m = 0; m < kM; ++m) {
        SINKLORA_UNROLL
        for (int i = j; i < 4; i += 2) {
          const float p = Exp2(fmaf(scores[m][n][i], kLog2E, -row_lse));
          scores[m][n][i] = a.Sees(row_position, stored[m][i / 2]) ? p : 0.0f;
        }
      }
    }
  }
}

// Adds probabilities to the sums of slots in the order of rows, which four
// lanes hold two by two: each adds its own and hands on the sum.
template <int kM, int kN>
SINKLORA_DEVICE void AddInOrder(const float p[kM][kN][4], float sums[kM][2]) {
  const int quad = static_cast<int>(threadIdx.x) % kWarpThreads / 4 * 4;
  SINKLORA_UNROLL
  for (int n = 0; n < kN; ++n) {
    SINKLORA_UNROLL
    for (int lane = 0; lane < 4; ++lane) {
      SINKLORA_UNROLL
      for (int m = 0; m < kM; ++m) {
        SINKLORA_UNROLL
        for (int half = 0; half < 2; ++half) {
          const float sum =
              sums[m][half] + p[m][n][half * 2] + p[m][n][half * 2 + 1];
          sums[m][half] = Shuffle(sum, quad + lane);
        }
      }
    }
  }
}

struct ColumnArgs {
  const float* lse;  // [heads, tokens], rows lse_head apart
  int64_t lse_head;
  float* scores;  // [kv_heads, slots], rows scores_head apart
  int64_t scores_head;
};

// Block (kMmaHeld slots, kv head): scores of its slots += probabilities, row
// after row.
template <int D>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kTileThreads, 2)
    CacheColumnsKernel(CacheMmaArgs a, ColumnArgs c) {
  using Tile = ForwardTile<D>;
  SINKLORA_SHARED(int[kMmaHeld], positions);  // of slots
  const typename Tile::Shared shared;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int first = static_cast<int>(blockIdx.x) * kMmaHeld;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_slot =
      static_cast<int>(threadIdx.x) / kWarpThreads * 16 * Tile::kM;
  positions[threadIdx.x] =
      SlotPosition(a.cache, kv_head, first + static_cast<int>(threadIdx.x));
  const auto start = [&](int row, int stage) {
    StartTile<D, kMmaStream>(shared.Stream(stage, 0),
                             a.Queries(kv_head, row, D), a.cache.rows - row);
  };
  StartTile<D, kMmaHeld>(shared.Held(0), a.k + a.Slot(kv_head, first) * D,
                         a.cache.used - first);
  start(0, 0);
  CpAsyncCommit();
  SyncThreads();
  PositionRange slots{positions[0], positions[0]};
  for (int i = 1; i < kMmaHeld; ++i) {
    slots = Joined(slots, {positions[i], positions[i]});
  }
  const int lane_slot = warp_slot + lane / 4;
  const int left = a.cache.used - first;
  float* saved = c.scores + kv_head * c.scores_head + first;
  int stored[Tile::kM][2];
  float sums[Tile::kM][2];
  SINKLORA_UNROLL
  for (int m = 0; m < Tile::kM; ++m) {
    SINKLORA_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int slot = lane_slot + m * 16 + half * 8;
      stored[m][half] = positions[slot];
      sums[m][half] = slot < left ? saved[slot] : 0.0f;
    }
  }
  int stage = 0;
  for (int row = 0; row < a.cache.rows; row += kMmaStream, stage ^= 1) {
    const int own = row + lane;
    const int position = a.RowPosition(own);
    const float lse = own < a.cache.rows
                          ? c.lse[a.cache.Head(kv_head, own) * c.lse_head +
                                  a.cache.Token(own)] *
                                kLog2E
                          : 0.0f;
    CpAsyncWait<0>();
    SyncThreads();  // these rows are there; the last ones are done with
    if (row + kMmaStream < a.cache.rows) start(row + kMmaStream, stage ^ 1);
    CpAsyncCommit();
    if (a.NoneSeen(RangeOfLanes(position), slots)) continue;
    float scores[Tile::kM][Tile::kN][4];
    SetZero<Tile::kM, Tile::kN>(scores);
    MultiplyRows<D, Tile::kM, Tile::kN>(
        scores, shared.Held(0) + warp_slot * kRowStride<D>,
        shared.Stream(stage, 0));
    ColumnProbabilities<Tile::kM, Tile::kN>(a, position, lse, stored, scores);
    AddInOrder<Tile::kM, Tile::kN>(scores, sums);
  }
  if (lane % 4 != 0) return;
  SINKLORA_UNROLL
  for (int m = 0; m < Tile::kM; ++m) {
    SINKLORA_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int slot = lane_slot + m * 16 + half * 8;
      if (slot < left) saved[slot] = sums[m][half];
    }
  }
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_MMA_CUDA_INL_H_
