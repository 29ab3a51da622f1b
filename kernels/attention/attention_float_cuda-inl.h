// Attention with f32 products, for any head_dim: 32 rows of one side a block,
// eight threads a row, tiles of 32 rows of the other side through shared
// memory. Exact rather than fast. Weights of 0 take no part in sums, so that
// what a query does not see may be anything.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_FLOAT_CUDA_INL_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_FLOAT_CUDA_INL_H_

#include <cstdint>

#include "kernels/attention/attention_forward_cuda-inl.h"
#include "kernels/attention/attention_tile_cuda-inl.h"
#include "kernels/attention/attention_work_cuda.h"
#include "kernels/cuda/device.h"

namespace sinklora::kernels::cuda {

inline constexpr int kFloatRows = 32;
inline constexpr int kRowThreads = 8;
inline constexpr int kFloatThreads = kFloatRows * kRowThreads;
inline constexpr int kRowColumns = kFloatRows / kRowThreads;  // of a thread
inline constexpr int kWeightStride = kFloatRows + 1;

// Bytes of `tiles` tiles of rows and `weights` tiles of weights.
constexpr int64_t FloatSharedBytes(int head_dim, int tiles, int weights) {
  return (int64_t{tiles} * kFloatRows * (head_dim + 1) +
          int64_t{weights} * kFloatRows * kWeightStride) *
         int64_t{sizeof(float)};
}

struct FloatForwardArgs {
  ConstTokenRows q, k, v;
  TokenRows out;
  float* lse;  // [heads, tokens], rows lse_head apart; or null
  int64_t lse_head;
  int head_dim, window;
  float scale;
  QueryGrid grid;
};

SINKLORA_DEVICE int FloatRow() {
  return static_cast<int>(threadIdx.x) / kRowThreads;
}
SINKLORA_DEVICE int FloatColumn() {
  return static_cast<int>(threadIdx.x) % kRowThreads;
}

// Tokens [token, token + valid) of a head, times `factor`; zeros beyond.
SINKLORA_DEVICE void LoadFloatTile(const ConstTokenRows& from, int64_t token,
                                   int head, int valid, int head_dim,
                                   float factor, float* tile) {
  for (int i = static_cast<int>(threadIdx.x); i < kFloatRows * head_dim;
       i += kFloatThreads) {
    const int row = i / head_dim;
    const int d = i % head_dim;
    tile[row * (head_dim + 1) + d] =
        row < valid ? from.Row(token + row, head)[d] * factor : 0.0f;
  }
}

// dots[i] = row FloatRow() of `a` times row FloatColumn() + 8 i of `b`.
SINKLORA_DEVICE void FloatDots(const float* a, const float* b, int head_dim,
                               float dots[kRowColumns]) {
  const float* row = a + FloatRow() * (head_dim + 1);
  const float* column = b + FloatColumn() * (head_dim + 1);
  SINKLORA_UNROLL
  for (int i = 0; i < kRowColumns; ++i) dots[i] = 0.0f;
  for (int d = 0; d < head_dim; ++d) {
    SINKLORA_UNROLL
    for (int i = 0; i < kRowColumns; ++i) {
      dots[i] =
          fmaf(row[d], column[i * kRowThreads * (head_dim + 1) + d], dots[i]);
    }
  }
}

// acc[j] += column FloatColumn() + 8 j of weights[FloatRow()] times `b`.
template <int kMaxDim>
SINKLORA_DEVICE void AddWeighted(const float* weights, const float* b,
                                 int head_dim, float acc[kMaxDim / 8]) {
  const float* row = weights + FloatRow() * kWeightStride;
  for (int c = 0; c < kFloatRows; ++c) {
    const float weight = row[c];
    if (weight == 0.0f) continue;
    const float* from = b + c * (head_dim + 1) + FloatColumn();
    SINKLORA_UNROLL
    for (int j = 0; j < kMaxDim / 8; ++j) {
      if (j * 8 < head_dim) acc[j] = fmaf(weight, from[j * 8], acc[j]);
    }
  }
}

SINKLORA_DEVICE bool Sees(int query, int key, int window) {
  return key <= query && query - key < window;
}

template <int kMaxDim>
SINKLORA_DEVICE void StoreFloatRow(const float acc[kMaxDim / 8], float factor,
                                   int head_dim, float* row) {
  SINKLORA_UNROLL
  for (int j = 0; j < kMaxDim / 8; ++j) {
    if (j * 8 < head_dim) row[FloatColumn() + j * 8] = acc[j] * factor;
  }
}

template <int kMaxDim>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kFloatThreads, 1)
    FloatForwardKernel(FloatForwardArgs a) {
  int head;
  const QueryWork w = a.grid.Tile(&head);
  const int tiles = KeyTiles<kFloatRows>(w);
  const int kv_head = head / a.grid.group;
  float* queries = DynamicShared<float>();
  float* others = queries + kFloatRows * (a.head_dim + 1);
  float* weights = others + kFloatRows * (a.head_dim + 1);
  const int query = w.begin + FloatRow();
  LoadFloatTile(a.q, w.token + w.begin, head, w.rows, a.head_dim, a.scale,
                queries);
  float acc[kMaxDim / 8] = {};
  float top = -INFINITY;
  float total = 0.0f;
  for (int i = 0; i < tiles; ++i) {
    const KeySpan span = KeyTileAt<kFloatRows>(w, i);
    SyncThreads();
    LoadFloatTile(a.k, w.token + span.begin, kv_head, span.end - span.begin,
                  a.head_dim, 1.0f, others);
    SyncThreads();
    float scores[kRowColumns];
    FloatDots(queries, others, a.head_dim, scores);
    float new_top = top;
    for (int c = 0; c < kRowColumns; ++c) {
      const int key = span.begin + FloatColumn() + c * kRowThreads;
      if (key >= span.end || !Sees(query, key, a.window)) scores[c] = -INFINITY;
      new_top = fmaxf(new_top, scores[c]);
    }
    new_top = MaxOfLanes(new_top, kRowThreads);
    const float factor = new_top == top ? 1.0f : expf(top - new_top);
    const float base = new_top == -INFINITY ? 0.0f : new_top;
    top = new_top;
    total *= factor;
    for (int c = 0; c < kRowColumns; ++c) {
      const float weight = expf(scores[c] - base);
      total += weight;
      weights[FloatRow() * kWeightStride + FloatColumn() + c * kRowThreads] =
          weight;
    }
    for (int j = 0; j < kMaxDim / 8; ++j) acc[j] *= factor;
    SyncThreads();
    LoadFloatTile(a.v, w.token + span.begin, kv_head, span.end - span.begin,
                  a.head_dim, 1.0f, others);
    SyncThreads();
    AddWeighted<kMaxDim>(weights, others, a.head_dim, acc);
  }
  total = SumOfLanes(total, kRowThreads);
  if (FloatRow() >= w.rows) return;
  const int64_t token = w.token + query;
  StoreFloatRow<kMaxDim>(acc, 1.0f / total, a.head_dim, a.out.Row(token, head));
  if (a.lse != nullptr && FloatColumn() == 0) {
    a.lse[head * a.lse_head + token] = top + logf(total);
  }
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_FLOAT_CUDA_INL_H_
