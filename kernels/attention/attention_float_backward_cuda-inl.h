// Attention backward with f32 products; see attention_float_cuda-inl.h for how
// and attention_backward_cuda-inl.h for the formulas.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_FLOAT_BACKWARD_CUDA_INL_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_FLOAT_BACKWARD_CUDA_INL_H_

#include <cstdint>

#include "kernels/attention/attention_backward_cuda-inl.h"
#include "kernels/attention/attention_float_cuda-inl.h"

namespace sinklora::kernels::cuda {

struct FloatBackwardArgs {
  ConstTokenRows q, k, v, dout;
  const float* lse;    // [heads, tokens]
  const float* delta;  // [heads, tokens]
  TokenRows dq, dk, dv;
  int64_t tokens;
  int heads, kv_heads, head_dim, window;
  int plain_heads;  // the others are shifted
  float scale;
  QueryGrid grid;       // of query gradients
  const KeyWork* keys;  // of key gradients: a block (x, kv head y)
  float* partials;  // [partials, kv_heads, 2 (dk, dv), kFloatRows, head_dim]
};

template <int kMaxDim>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kFloatThreads, 1)
    FloatQueryGradientKernel(FloatBackwardArgs a) {
  int head;
  const QueryWork w = a.grid.Tile(&head);
  const int tiles = KeyTiles<kFloatRows>(w);
  const int kv_head = head / a.grid.group;
  const int tile = kFloatRows * (a.head_dim + 1);
  float* queries = DynamicShared<float>();
  float* douts = queries + tile;
  float* others = douts + tile;
  float* weights = others + tile;
  const int64_t first = w.token + w.begin;
  LoadFloatTile(a.q, first, head, w.rows, a.head_dim, a.scale, queries);
  LoadFloatTile(a.dout, first, head, w.rows, a.head_dim, 1.0f, douts);
  const bool own = FloatRow() < w.rows;
  const int64_t saved = head * a.tokens + first + FloatRow();
  const float lse = own ? a.lse[saved] : 0.0f;
  const float delta = own ? a.delta[saved] : 0.0f;
  float acc[kMaxDim / 8] = {};
  for (int i = 0; i < tiles; ++i) {
    const KeySpan span = KeyTileAt<kFloatRows>(w, i);
    const int keys = span.end - span.begin;
    float scores[kRowColumns], gradients[kRowColumns];
    SyncThreads();
    LoadFloatTile(a.v, w.token + span.begin, kv_head, keys, a.head_dim, 1.0f,
                  others);
    SyncThreads();
    FloatDots(douts, others, a.head_dim, gradients);
    SyncThreads();
    LoadFloatTile(a.k, w.token + span.begin, kv_head, keys, a.head_dim, 1.0f,
                  others);
    SyncThreads();
    FloatDots(queries, others, a.head_dim, scores);
    for (int c = 0; c < kRowColumns; ++c) {
      const int column = FloatColumn() + c * kRowThreads;
      const bool seen = column < keys && Sees(w.begin + FloatRow(),
                                              span.begin + column, a.window);
      weights[FloatRow() * kWeightStride + column] =
          seen ? expf(scores[c] - lse) * (gradients[c] - delta) : 0.0f;
    }
    SyncWarp();  // a row of weights is written and read by one warp
    AddWeighted<kMaxDim>(weights, others, a.head_dim, acc);
  }
  if (!own) return;
  StoreFloatRow<kMaxDim>(acc, a.scale, a.head_dim,
                         a.dq.Row(first + FloatRow(), head));
}

template <int kMaxDim>
SINKLORA_DEVICE void StoreFloatKeyRow(const FloatBackwardArgs& a,
                                      const KeyWork& w, int kv_head, int i,
                                      const float acc[kMaxDim / 8]) {
  if (FloatRow() >= w.rows) return;
  float* row;
  if (w.partial >= 0) {
    const int64_t tile =
        (static_cast<int64_t>(w.partial) * a.kv_heads + kv_head) * 2 + i;
    row = a.partials + (tile * kFloatRows + FloatRow()) * a.head_dim;
  } else {
    row = (i == 0 ? a.dk : a.dv).Row(w.token + w.begin + FloatRow(), kv_head);
  }
  StoreFloatRow<kMaxDim>(acc, 1.0f, a.head_dim, row);
}

template <int kMaxDim>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kFloatThreads, 1)
    FloatKeyGradientKernel(FloatBackwardArgs a) {
  const KeyWork w = a.keys[blockIdx.x];
  const int kv_head = static_cast<int>(blockIdx.y);
  const int group = a.heads / a.kv_heads;
  const int tile = kFloatRows * (a.head_dim + 1);
  float* keys = DynamicShared<float>();
  float* values = keys + tile;
  float* queries = values + tile;
  float* douts = queries + tile;
  float* weights = douts + tile;
  float* gradients = weights + kFloatRows * kWeightStride;
  LoadFloatTile(a.k, w.token + w.begin, kv_head, w.rows, a.head_dim, 1.0f,
                keys);
  LoadFloatTile(a.v, w.token + w.begin, kv_head, w.rows, a.head_dim, 1.0f,
                values);
  const int key = w.begin + FloatRow();
  float dk[kMaxDim / 8] = {}, dv[kMaxDim / 8] = {};
  for (QueryWalk at(w, kv_head * group, group, a.plain_heads); !at.Done();
       at.Next(kFloatRows)) {
    const int rows = at.End() - at.query;
    const int64_t token = w.token + at.query;
    SyncThreads();
    LoadFloatTile(a.q, token, at.head, rows, a.head_dim, a.scale, queries);
    LoadFloatTile(a.dout, token, at.head, rows, a.head_dim, 1.0f, douts);
    SyncThreads();
    float p[kRowColumns], dp[kRowColumns];
    FloatDots(keys, queries, a.head_dim, p);
    FloatDots(values, douts, a.head_dim, dp);
    for (int c = 0; c < kRowColumns; ++c) {
      const int column = FloatColumn() + c * kRowThreads;
      const int64_t saved = at.head * a.tokens + token + column;
      const bool seen = column < rows && FloatRow() < w.rows &&
                        Sees(at.query + column, key, a.window);
      const float weight = seen ? expf(p[c] - a.lse[saved]) : 0.0f;
      const int to = FloatRow() * kWeightStride + column;
      weights[to] = weight;
      gradients[to] = seen ? weight * (dp[c] - a.delta[saved]) : 0.0f;
    }
    SyncWarp();  // a row of weights is written and read by one warp
    AddWeighted<kMaxDim>(weights, douts, a.head_dim, dv);
    AddWeighted<kMaxDim>(gradients, queries, a.head_dim, dk);
  }
  StoreFloatKeyRow<kMaxDim>(a, w, kv_head, 0, dk);
  StoreFloatKeyRow<kMaxDim>(a, w, kv_head, 1, dv);
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_FLOAT_BACKWARD_CUDA_INL_H_
