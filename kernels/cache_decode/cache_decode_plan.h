// How CacheDecode cuts its work on the CPU, and the scratch its tasks share.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_PLAN_H_
#define SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_PLAN_H_

#include <algorithm>
#include <cstdint>
#include <new>

#include "kernels/cache_decode/cache_decode.h"
#include "kernels/cpu/scratch.h"

namespace sinklora::kernels::cpu {

// Slots of a task. 512 rows of 128 f32 elements are 256 KiB of keys: long
// enough to stream, and a few for each thread from some thousand slots on.
inline constexpr int64_t kChunkSlots = 512;

// Running softmax of one query over the slots of a chunk.
struct ChunkSoftmax {
  float top;
  float sum;
};

// Of one token; those of a batch lie one after the other.
struct DecodePlan {
  const DecodedToken* token = nullptr;
  float scale = 0.0f;
  int64_t window = 0;
  int64_t first_task = 0;  // of its kv_heads * chunks, in the batch
  int64_t group = 0;       // query heads of a kv head
  int64_t chunks = 0;      // of a kv head
  int64_t head_dim = 0;
  // Softmax numerators of a query, relative to its chunk's top, are this far
  // from the next query's.
  int64_t weights_stride = 0;
  float* weights = nullptr;  // [kv_heads, group, weights_stride]; scores only
  float* sums = nullptr;     // [kv_heads, chunks, group, head_dim]
  ChunkSoftmax* rows = nullptr;  // [kv_heads, chunks, group]

  // Of a chunk's first query; `own` where nobody needs them afterwards.
  float* Weights(int64_t kv_head, int64_t chunk, float* own) const {
    if (weights == nullptr) return own;
    return weights + kv_head * group * weights_stride + chunk * kChunkSlots;
  }
  float* Sums(int64_t kv_head, int64_t chunk) const {
    return sums + (kv_head * chunks + chunk) * group * head_dim;
  }
  ChunkSoftmax* Rows(int64_t kv_head, int64_t chunk) const {
    return rows + (kv_head * chunks + chunk) * group;
  }
};

// The plans of a batch, [tokens.size()], in its scratch.
struct BatchPlan {
  DecodePlan* plans = nullptr;
  int64_t count = 0;
  int64_t tasks = 0;       // chunks of all kv heads
  int64_t max_chunks = 0;  // of a kv head
  // The plan that a task belongs to.
  const DecodePlan& Of(int64_t task) const {
    return *(std::upper_bound(plans, plans + count, task,
                              [](int64_t t, const DecodePlan& plan) {
                                return t < plan.first_task;
                              }) -
             1);
  }
};

inline int64_t ChunksOf(const DecodedToken& token) {
  return (token.cache.used + kChunkSlots - 1) / kChunkSlots;
}

// Floats of scratch: weights where they are kept, then sums and rows.
inline int64_t DecodeFloats(const DecodedToken& t) {
  const int64_t kept = t.scores.empty() ? 0 : kChunkSlots;
  return t.q.shape[0] * ChunksOf(t) * (kept + t.q.shape[1] + 2);
}

inline DecodePlan PlanToken(const DecodedToken& t, const CacheDecodeParams& p,
                            float* memory) {
  DecodePlan plan;
  plan.token = &t;
  plan.scale = p.scale;
  plan.window = p.window;
  plan.group = t.q.shape[0] / t.cache.k.shape[0];
  plan.chunks = ChunksOf(t);
  plan.head_dim = t.q.shape[1];
  const bool keep = !t.scores.empty();
  plan.weights_stride = keep ? plan.chunks * kChunkSlots : kChunkSlots;
  const int64_t rows = t.q.shape[0] * plan.chunks;
  if (keep) plan.weights = memory;
  plan.sums = memory + (keep ? rows * kChunkSlots : 0);
  plan.rows = reinterpret_cast<ChunkSoftmax*>(plan.sums + rows * plan.head_dim);
  return plan;
}

inline BatchPlan PlanDecode(const CacheDecodeParams& p, Scratch* scratch) {
  BatchPlan out;
  out.count = static_cast<int64_t>(p.tokens.size());
  const int64_t plan_bytes =
      out.count * static_cast<int64_t>(sizeof(DecodePlan));
  int64_t floats = 0;
  for (const DecodedToken& t : p.tokens) floats += DecodeFloats(t);
  auto* memory = scratch->Reserve<char>(plan_bytes + floats * 4);
  out.plans = reinterpret_cast<DecodePlan*>(memory);
  auto* next = reinterpret_cast<float*>(memory + plan_bytes);
  for (int64_t i = 0; i < out.count; ++i) {
    const DecodedToken& t = p.tokens[i];
    DecodePlan* plan = new (out.plans + i) DecodePlan(PlanToken(t, p, next));
    next += DecodeFloats(t);
    plan->first_task = out.tasks;
    out.tasks += t.cache.k.shape[0] * plan->chunks;
    out.max_chunks = std::max(out.max_chunks, plan->chunks);
  }
  return out;
}

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_PLAN_H_
