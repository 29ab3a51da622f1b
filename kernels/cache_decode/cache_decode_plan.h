// How CacheDecode cuts its work on the CPU, and the scratch its tasks share.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_PLAN_H_
#define SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_PLAN_H_

#include <cstdint>

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

struct DecodePlan {
  int64_t group = 0;   // query heads of a kv head
  int64_t chunks = 0;  // of a kv head
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

inline DecodePlan PlanDecode(const CacheDecodeParams& p, Scratch* scratch) {
  DecodePlan plan;
  const int64_t kv_heads = p.cache.k.shape[0];
  plan.group = p.q.shape[0] / kv_heads;
  plan.chunks = (p.cache.used + kChunkSlots - 1) / kChunkSlots;
  plan.head_dim = p.q.shape[1];
  const bool keep = !p.scores.empty();
  plan.weights_stride = keep ? plan.chunks * kChunkSlots : kChunkSlots;
  const int64_t tasks = kv_heads * plan.chunks * plan.group;
  const int64_t kept = keep ? tasks * kChunkSlots : 0;
  float* memory = scratch->Reserve<float>(kept + tasks * (plan.head_dim + 2));
  if (keep) plan.weights = memory;
  plan.sums = memory + kept;
  plan.rows =
      reinterpret_cast<ChunkSoftmax*>(plan.sums + tasks * plan.head_dim);
  return plan;
}

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_PLAN_H_
