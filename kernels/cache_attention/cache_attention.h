// Serving attention over a slot cache, and the score bookkeeping of H2O
// (Heavy-Hitter Oracle, 2306.14048).
//
// A cache of one layer holds `slots` slots per kv head. A slot is not a token:
// `positions[kv_head][slot]` says which absolute token position lives there; it
// is -1 for an empty slot. Only slots [0, used) are looked at. Kept sets differ
// per kv head, so each has its own positions and scores.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ATTENTION_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ATTENTION_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace sinklora::kernels {

//
// i8 storage: k = code * k_scale of its head and slot, v likewise. Writing
// takes scale = the largest |x| of the row / 127 and the nearest codes, so that
// every element is off by at most scale / 2. A row with an element that is not
// finite gets scale NaN, so that it shows; one whose scale would not be a
// normal number becomes zeros.
struct CacheView {
  TensorView k;  // [kv_heads, slots, head_dim] f32, bf16 or i8, after RoPE with
                 // the original positions
  TensorView v;  // [kv_heads, slots, head_dim], same dtype
  TensorView positions;  // [kv_heads, slots] i32
  int64_t used = 0;      // slots [0, used) may hold tokens
  TensorView k_scale{};  // [kv_heads, slots] f32 with i8, else empty
  TensorView v_scale{};
};

// Writes the new tokens' k and v: token t of kv head h goes to slot slots[h][t]
// and positions[h][slot] = position[t].
struct CacheWriteParams {
  ConstTensorView k;         // [tokens, kv_heads, head_dim] f32
  ConstTensorView v;         // [tokens, kv_heads, head_dim] f32
  ConstTensorView position;  // [tokens] i32, >= 0
  ConstTensorView slots;     // [kv_heads, tokens] i32, each in [0, cache slots)
  CacheView cache;
};

// out[t, h] = softmax over slots j of kv head h * kv_heads / heads with 0 <=
// positions[j] <= position[t] and, with a window, position[t] - positions[j] <
// window. A query with no visible slot is kInvalidArgument: a token always sees
// itself. Row bits do not depend on `tokens`.
//
// `product_dtype` kBF16 allows matrix products of bf16 operands, as in
// attention.h: queries, keys, values and probabilities are rounded to bf16,
// sums, softmax and lse stay f32. GPUs do so; on the CPU products stay f32.
struct CacheAttentionParams {
  ConstTensorView q;         // [tokens, heads, head_dim] f32, after RoPE
  ConstTensorView position;  // [tokens] i32
  CacheView cache;
  float scale = 0.0f;
  int64_t window = 0;  // tokens a query sees, itself included; 0: all
  TensorView out;      // [tokens, heads, head_dim] f32
  TensorView lse{};    // [heads, tokens] f32; or empty
  DType product_dtype = DType::kF32;  // or kBF16
};

// scores[kv_head][j] += sum over queries t and the query heads of the group of
// softmax probability (t, j), recomputed from q, k and the saved lse: exact,
// extra memory O(slots). Adds `tokens * heads / kv_heads` per kv head in total
// (the invariant that callers check). Queries are added in token order, head by
// head, so that chunks of any size give the same bits.
struct CacheColumnSumsParams {
  ConstTensorView q;         // [tokens, heads, head_dim] f32
  ConstTensorView position;  // [tokens] i32
  ConstTensorView lse;       // [heads, tokens] f32
  CacheView cache;
  float scale = 0.0f;
  int64_t window = 0;                 // as of the attention
  TensorView scores;                  // [kv_heads, slots] f32, added to
  DType product_dtype = DType::kF32;  // or kBF16; that of the attention
};

// Moves slot keep[h][i] of every kv head h to slot i, in k, v, their scales,
// positions and (when given) scores, for i < keep.shape[1]; later slots get
// position -1 and score 0. REQUIRES: keep[h] strictly ascending.
struct CacheCompactParams {
  CacheView cache;
  TensorView scores{};   // [kv_heads, slots] f32; or empty
  ConstTensorView keep;  // [kv_heads, kept] i32
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_ATTENTION_H_
