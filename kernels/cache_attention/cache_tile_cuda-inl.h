// Serving attention on CUDA: rows of queries against one tile of 128 slots.
//
// The rows of a kv head are its query heads token by token: row = token * group
// + head of the group. A thread has one slot for scores and one pair of
// elements for sums. What a row gets from a tile is computed in one order,
// whatever rows and tiles there are beside it, so that one token and a chunk of
// tokens have the same bits.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_TILE_CUDA_INL_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_TILE_CUDA_INL_H_

#include <cstdint>

#include "kernels/cuda/device.h"

namespace sinklora::kernels::cuda {

inline constexpr int kSlotTile = 128;  // slots and threads
inline constexpr int kSlotWarps = kSlotTile / kWarpThreads;

// One of k and v: [kv_heads, slots, head_dim], with scales of i8 storage.
struct CachePart {
  const void* data;
  int64_t head, slot;  // strides in elements
  const float* scale;  // [kv_heads, slots], rows scale_head apart
  int64_t scale_head;
  bool units;  // rows begin at multiples of 16 bytes
  bool pairs;  // rows begin at multiples of two elements
};

struct CacheArgs {
  const float* q;  // [tokens, heads, head_dim]
  int64_t q_token, q_head;
  const int32_t* position;  // [tokens]; null: there is one token, at
  int only_position;
  CachePart k, v;
  const int32_t* slot_position;  // [kv_heads, slots], rows slot_head apart
  int64_t slot_head;
  int used, rows;  // slots; rows of a kv head
  int group, head_dim, window;
  float scale;

  SINKLORA_DEVICE int Token(int row) const { return row / group; }
  SINKLORA_DEVICE int Position(int token) const {
    return position == nullptr ? only_position : position[token];
  }
  SINKLORA_DEVICE int Head(int kv_head, int row) const {
    return kv_head * group + row % group;
  }
};

// Elements of a key row in shared memory: an odd number of 16-byte units, so
// that threads with neighbouring slots read from different banks.
template <typename T>
SINKLORA_DEVICE int KeyStride(int head_dim) {
  const int units = (head_dim * int{sizeof(T)} + 15) / 16;
  return (units | 1) * 16 / int{sizeof(T)};
}

SINKLORA_DEVICE float FloatOf(float x) { return x; }
SINKLORA_DEVICE float FloatOf(int8_t x) { return static_cast<float>(x); }
SINKLORA_DEVICE float FloatOf(bf16_t x) { return FloatFromBf16(x); }

// Eight elements at a multiple of 8 bytes (i8) or 16 bytes.
SINKLORA_DEVICE void LoadOctet(const float* from, float x[8]) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
  x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}
SINKLORA_DEVICE void LoadOctet(const bf16_t* from, float x[8]) {
  const uint4 pairs = *reinterpret_cast<const uint4*>(from);
  x[0] = LowOfBf16Pair(pairs.x), x[1] = HighOfBf16Pair(pairs.x);
  x[2] = LowOfBf16Pair(pairs.y), x[3] = HighOfBf16Pair(pairs.y);
  x[4] = LowOfBf16Pair(pairs.z), x[5] = HighOfBf16Pair(pairs.z);
  x[6] = LowOfBf16Pair(pairs.w), x[7] = HighOfBf16Pair(pairs.w);
}
SINKLORA_DEVICE void LoadOctet(const int8_t* from, float x[8]) {
  const uint2 codes = *reinterpret_cast<const uint2*>(from);
  SINKLORA_UNROLL
  for (int i = 0; i < 4; ++i) {
    x[i] = static_cast<float>(static_cast<int8_t>(codes.x >> (8 * i)));
    x[4 + i] = static_cast<float>(static_cast<int8_t>(codes.y >> (8 * i)));
  }
}

SINKLORA_DEVICE float2 LoadPair(const float* from, bool pairs) {
  return pairs ? *reinterpret_cast<const float2*>(from)
               : make_float2(from[0], from[1]);
}
SINKLORA_DEVICE float2 LoadPair(const bf16_t* from, bool pairs) {
  if (!pairs) return make_float2(FloatOf(from[0]), FloatOf(from[1]));
  const uint32_t pair = *reinterpret_cast<const uint32_t*>(from);
  return make_float2(LowOfBf16Pair(pair), HighOfBf16Pair(pair));
}
SINKLORA_DEVICE float2 LoadPair(const int8_t* from, bool pairs) {
  if (!pairs) return make_float2(FloatOf(from[0]), FloatOf(from[1]));
  const uint16_t pair = *reinterpret_cast<const uint16_t*>(from);
  return make_float2(FloatOf(static_cast<int8_t>(pair & 0xff)),
                     FloatOf(static_cast<int8_t>(pair >> 8)));
}

// Starts the copy of keys of slots [first, first + kSlotTile); those from
// `used` on become zeros. CpAsyncCommit is the caller's.
template <typename T>
SINKLORA_DEVICE void StartKeys(const CacheArgs& a, int kv_head, int first,
                               T* keys) {
  const T* from = static_cast<const T*>(a.k.data) + kv_head * a.k.head;
  const int stride = KeyStride<T>(a.head_dim);
  const int valid = a.used - first;
  if (!a.k.units) {
    for (int i = static_cast<int>(threadIdx.x); i < kSlotTile * a.head_dim;
         i += kSlotTile) {
      const int slot = i / a.head_dim;
      const int d = i % a.head_dim;
      keys[slot * stride + d] =
          slot < valid ? from[(first + slot) * a.k.slot + d] : T{0};
    }
    return;
  }
  constexpr int kUnit = 16 / int{sizeof(T)};
  const int units = (a.head_dim + kUnit - 1) / kUnit;
  for (int i = static_cast<int>(threadIdx.x); i < kSlotTile * units;
       i += kSlotTile) {
    const int slot = i / units;
    const int d = i % units * kUnit;
    const int bytes = (a.head_dim - d) * int{sizeof(T)};
    const bool read = slot < valid;
    CpAsync16(keys + slot * stride + d,
              from + (read ? (first + slot) * a.k.slot + d : 0),
              read ? (bytes < 16 ? bytes : 16) : 0);
  }
}

// Rows [first_row, first_row + kRows) of queries times scale * factor; zeros
// beyond the last.
template <int kRows>
SINKLORA_DEVICE void LoadQueryRows(const CacheArgs& a, int kv_head,
                                   int first_row, float factor,
                                   float* queries) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * a.head_dim;
       i += kSlotTile) {
    const int row = first_row + i / a.head_dim;
    const int d = i % a.head_dim;
    queries[i] = row < a.rows ? a.q[a.Token(row) * a.q_token +
                                    a.Head(kv_head, row) * a.q_head + d] *
                                    (a.scale * factor)
                              : 0.0f;
  }
}

// Scores of the thread's slot with all rows.
template <typename T, int kRows>
SINKLORA_DEVICE void ScoreSlot(const CacheArgs& a, int kv_head, int slot,
                               const float* queries, const T* keys,
                               float scores[kRows]) {
  SINKLORA_UNROLL
  for (int r = 0; r < kRows; ++r) scores[r] = 0.0f;
  const T* key =
      keys + static_cast<int>(threadIdx.x) * KeyStride<T>(a.head_dim);
  for (int d = 0; d < a.head_dim; d += 8) {
    float x[8];
    LoadOctet(key + d, x);
    SINKLORA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float y[8];
      LoadOctet(queries + r * a.head_dim + d, y);
      SINKLORA_UNROLL
      for (int i = 0; i < 8; ++i) scores[r] = fmaf(x[i], y[i], scores[r]);
    }
  }
  if (a.k.scale == nullptr || slot >= a.used) return;
  const float scale = a.k.scale[kv_head * a.k.scale_head + slot];
  SINKLORA_UNROLL
  for (int r = 0; r < kRows; ++r) scores[r] *= scale;
}

// Position of the thread's slot, -1 for none.
SINKLORA_DEVICE int SlotPosition(const CacheArgs& a, int kv_head, int slot) {
  return slot < a.used ? a.slot_position[kv_head * a.slot_head + slot] : -1;
}

SINKLORA_DEVICE bool SeesSlot(const CacheArgs& a, int row, int stored) {
  if (row >= a.rows || stored < 0) return false;
  const int position = a.Position(a.Token(row));
  return stored <= position && (a.window == 0 || position - stored < a.window);
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_TILE_CUDA_INL_H_
