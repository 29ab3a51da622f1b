// One decoded token of each of some sequences, each over its own slot cache:
// the token is stored and attends and, where the cache is bounded, the
// bookkeeping of its policy is done, with every key and value read once.
//
// Source: H2O (Heavy-Hitter Oracle, 2306.14048), StreamingLLM (2309.17453),
// algorithms of the slot cache as in cache_attention.h.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_H_
#define SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_H_

#include <cstdint>
#include <span>

#include "kernels/cache_attention/cache_attention.h"
#include "kernels/tensor.h"

namespace sinklora::kernels {

// First the token's k and v go to their slots, as CacheWrite does it.
//
// Attention: out[h] = softmax over the slots j of kv head h * kv_heads / heads
// that the query sees, as of CacheAttentionParams. It is another summation
// than CacheAttention's (dot products along head_dim; slots in fixed chunks),
// made for one query, so the bits of the two differ.
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
struct DecodedToken {
  ConstTensorView q;      // [heads, head_dim] f32, after RoPE
  ConstTensorView k, v;   // [kv_heads, head_dim] f32, k after RoPE
  ConstTensorView slots;  // [kv_heads] i32, each in [0, cache.used)
  int32_t position = 0;   // >= 0; the newest in the cache
  CacheView cache;        // of this sequence alone
  TensorView out;         // [heads, head_dim] f32

  TensorView scores{};  // [kv_heads, slots] f32, added to; or empty
  TensorView growth{};  // [kv_heads] f32; exactly with scores

  TensorView victims{};  // [kv_heads] i32; or empty
  int64_t sink_tokens = 0;
  int64_t recent_tokens = 0;
};

// Every sequence gets the bits it gets alone. All have as many heads, kv heads
// and elements of a head as the first, and the same storage.
struct CacheDecodeParams {
  std::span<const DecodedToken> tokens;  // in host memory, free on return
  float scale = 0.0f;
  int64_t window = 0;  // tokens a query sees, itself included; 0: all
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_H_
