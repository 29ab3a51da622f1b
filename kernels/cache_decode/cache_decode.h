// One decoded token over a slot cache: attention and, where the cache is
// bounded, the bookkeeping of its policy, with every key and value read once.
//
// Source: H2O (Heavy-Hitter Oracle, 2306.14048), StreamingLLM (2309.17453),
// algorithms of the slot cache as in cache_attention.h.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_H_
#define SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_H_

#include <cstdint>

#include "kernels/cache_attention/cache_attention.h"
#include "kernels/tensor.h"

namespace sinklora::kernels {

// Attention: out[h] = softmax over the slots j of kv head h * kv_heads / heads
// that the query sees, as of CacheAttentionParams. It is another summation
// than CacheAttention's (dot products along head_dim; slots in fixed chunks),
// made for one query, so the bits of the two differ. A query with no visible
// slot is kInvalidArgument.
//
// Scores, where given: scores[kv_head][j] += the sum over the query heads of
// the group of the softmax probability of slot j, and growth[kv_head] = what
// the scores of the kv head grew by, all slots together: the group size, but
// for rounding, and NaN where a probability is not finite.
//
// Eviction, where `victims` is given: of each kv head one token goes: its
// position becomes -1, its score 0, and victims[kv_head] its slot. Which one:
// that which no later query can see (`window`), the oldest first; else, of
// those that are neither among the first `sink_tokens` positions nor the last
// `recent_tokens` up to `position`, that of the lowest score after this step
// (without scores: the oldest; ties: the older). -1 where there is none; then
// nothing goes. NaN scores are never lowest.
struct CacheDecodeParams {
  ConstTensorView q;     // [heads, head_dim] f32, after RoPE
  int32_t position = 0;  // of the token, >= 0; the newest in the cache
  CacheView cache;       // holds the token's own k and v already
  float scale = 0.0f;
  int64_t window = 0;  // tokens a query sees, itself included; 0: all
  TensorView out;      // [heads, head_dim] f32

  TensorView scores{};  // [kv_heads, slots] f32, added to; or empty
  TensorView growth{};  // [kv_heads] f32; exactly with scores

  TensorView victims{};  // [kv_heads] i32; or empty
  int64_t sink_tokens = 0;
  int64_t recent_tokens = 0;
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_H_
