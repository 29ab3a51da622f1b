// One query over a slot cache, at the speed of reading it. Two stages: the
// slots of each kv head in chunks of kChunkSlots, each with a softmax of its
// own; then a task for each kv head joins its chunks in order and keeps the
// books. Chunks are cut by the slots alone, so bits depend neither on threads
// nor on the other tokens of the batch, whose tasks the threads share.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/cache_attention/cache_row_cpu.h"
#include "kernels/cache_decode/cache_decode_plan.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cache_decode/cache_decode_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/attention/attention_tile-inl.h"
#include "kernels/cache_attention/visible_slots-inl.h"
#include "kernels/cache_decode/cache_decode_books-inl.h"
#include "kernels/cache_decode/slot_dots-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

template <typename T>
inline constexpr bool kIsCoded = std::is_same_v<T, int8_t>;

// What one task works on.
template <typename T>
struct Chunk {
  const T* k;  // rows of the chunk's slots
  const T* v;
  int64_t k_stride, v_stride;
  int64_t count;
  int32_t positions[kChunkSlots];  // -1 from count on
  bool all_visible;
};

// The new token, where its slot of the kv head lies in [first, first + count).
void StoreToken(const DecodedToken& p, int64_t kv_head, int64_t first,
                int64_t count) {
  const CacheView& cache = p.cache;
  const int64_t slot = p.slots.as<int32_t>()[kv_head * p.slots.stride[0]];
  if (slot < first || slot >= first + count) return;
  WriteCacheRow(At(p.k, kv_head), kv_head, slot, cache.k, cache.k_scale);
  WriteCacheRow(At(p.v, kv_head), kv_head, slot, cache.v, cache.v_scale);
  cache.positions.as<int32_t>()[kv_head * cache.positions.stride[0] + slot] =
      p.position;
}

template <typename T>
void LoadChunk(const DecodePlan& plan, int64_t kv_head, int64_t first,
               Chunk<T>& c) {
  const DecodedToken& p = *plan.token;
  const CacheView& cache = p.cache;
  c.count = std::min(kChunkSlots, cache.used - first);
  c.k_stride = cache.k.stride[1];
  c.v_stride = cache.v.stride[1];
  c.k = cache.k.as<T>() + kv_head * cache.k.stride[0] + first * c.k_stride;
  c.v = cache.v.as<T>() + kv_head * cache.v.stride[0] + first * c.v_stride;
  StoreToken(p, kv_head, first, c.count);
  const int32_t* positions = cache.positions.as<int32_t>() +
                             kv_head * cache.positions.stride[0] + first;
  std::memcpy(c.positions, positions, c.count * sizeof(int32_t));
  std::fill(c.positions + c.count, c.positions + kChunkSlots, -1);
  const Seen seen = SeenFrom(p.position, plan.window);
  c.all_visible = c.count % static_cast<int64_t>(hn::Lanes(F32Tag())) == 0;
  for (int64_t j = 0; j < c.count; j += hn::Lanes(F32Tag())) {
    c.all_visible &= hn::AllTrue(F32Tag(), VisibleSlots(c.positions, j, seen));
  }
}

// row[c] = from[c] * factors[c] where the slot holds a token.
HWY_INLINE void ScaleSlots(const int32_t* positions, const float* factors,
                           int64_t count, const float* from, float* row) {
  for (int64_t j = 0; j < count; ++j) {
    row[j] = positions[j] < 0 ? 0.0f : from[j] * factors[j];
  }
}

// sums[q] += weights[q] times the values of slots [begin, end), all of which
// hold tokens. In blocks whose rows stay in the nearest cache.
template <class D, typename T>
HWY_INLINE void AddValues(D d, const Chunk<T>& c, const float* weights,
                          int64_t weights_stride, int64_t begin, int64_t end,
                          int64_t queries, int64_t head_dim, float* sums) {
  constexpr int64_t kBlock = 16;
  for (int64_t j = begin; j < end; j += kBlock) {
    const GemmTile<T> tile{
        weights + j, weights_stride, 1,        c.v + j * c.v_stride,
        c.v_stride,  sums,           head_dim, std::min(kBlock, end - j),
        true};
    AskAhead(tile.b, kBlock * c.v_stride * static_cast<int64_t>(sizeof(T)));
    MicroGemm(d, tile, queries, head_dim);
  }
}

// The same over all slots that the query sees: what lies in another may not be
// a number, and its weight is zero.
template <class D, typename T>
HWY_INLINE void AddVisibleValues(D d, const DecodePlan& plan, const Chunk<T>& c,
                                 const float* weights, int64_t weights_stride,
                                 float* sums) {
  const int64_t head_dim = plan.head_dim;
  const int64_t queries = plan.group;
  if (c.all_visible) {
    AddValues(d, c, weights, weights_stride, 0, c.count, queries, head_dim,
              sums);
    return;
  }
  const Seen seen = SeenFrom(plan.token->position, plan.window);
  const auto visible = [&](int64_t j) {
    return c.positions[j] >= seen.first && c.positions[j] <= seen.last;
  };
  for (int64_t j = 0; j < c.count;) {
    if (!visible(j)) {
      ++j;
      continue;
    }
    int64_t end = j + 1;
    while (end < c.count && visible(end)) ++end;
    AddValues(d, c, weights, weights_stride, j, end, queries, head_dim, sums);
    j = end;
  }
}

template <typename T>
void AttendChunkT(const DecodePlan& plan, int64_t kv_head, int64_t index,
                  float* scratch) {
  const DecodedToken& p = *plan.token;
  const int64_t head_dim = plan.head_dim;
  const int64_t first = index * kChunkSlots;
  float* queries = scratch;                      // [group][head_dim]
  float* own = queries + plan.group * head_dim;  // [group][kChunkSlots]
  float* value_weights = own + plan.group * kChunkSlots;  // coded only
  float* weights = plan.Weights(kv_head, index, own);
  for (int64_t g = 0; g < plan.group; ++g) {
    ScaledCopy(At(p.q, kv_head * plan.group + g), plan.scale,
               queries + g * head_dim, head_dim);
  }
  Chunk<T> c;
  LoadChunk(plan, kv_head, first, c);
  WithHeadTag(head_dim, [&](auto d) {
    DotSlots(d, queries, plan.group, c.k, c.k_stride, c.count, head_dim,
             weights, plan.weights_stride);
  });
  const Seen seen = SeenFrom(p.position, plan.window);
  const ColumnSpan span = WidenToVectors(0, c.count);
  for (int64_t g = 0; g < plan.group; ++g) {
    float* row = weights + g * plan.weights_stride;
    if constexpr (kIsCoded<T>) {
      ScaleSlots(c.positions, At(p.cache.k_scale, kv_head) + first, c.count,
                 row, row);
    }
    RowSoftmax softmax;
    if (c.all_visible) {
      SoftmaxStep(row, span, AllColumns(), softmax);
    } else {
      const auto mask = [&](int64_t j) HWY_ATTR {
        return VisibleSlots(c.positions, j, seen);
      };
      SoftmaxStep(row, span, mask, softmax);
    }
    plan.Rows(kv_head, index)[g] = {softmax.top, softmax.sum};
    if constexpr (kIsCoded<T>) {
      ScaleSlots(c.positions, At(p.cache.v_scale, kv_head) + first, c.count,
                 row, value_weights + g * kChunkSlots);
    }
  }
  float* sums = plan.Sums(kv_head, index);
  std::memset(sums, 0, plan.group * head_dim * sizeof(float));
  WithHeadTag(head_dim, [&](auto d) {
    AddVisibleValues(d, plan, c, kIsCoded<T> ? value_weights : weights,
                     kIsCoded<T> ? kChunkSlots : plan.weights_stride, sums);
  });
}

void AttendChunk(const DecodePlan& plan, int64_t kv_head, int64_t index,
                 float* scratch) {
  const DType storage = plan.token->cache.k.dtype;
  if (storage == DType::kBF16) {
    AttendChunkT<bf16_t>(plan, kv_head, index, scratch);
  } else if (storage == DType::kI8) {
    AttendChunkT<int8_t>(plan, kv_head, index, scratch);
  } else {
    AttendChunkT<float>(plan, kv_head, index, scratch);
  }
}

// to += from * factor.
HWY_INLINE void AddScaled(const float* from, float factor, float* to,
                          int64_t n) {
  const F32Tag d;
  const F32Vec f = hn::Set(d, factor);
  ForEachVector(n, [&](int64_t i, auto lanes) HWY_ATTR {
    lanes.Store(hn::MulAdd(lanes.Load(d, from + i), f, lanes.Load(d, to + i)),
                d, to + i);
  });
}

// out of query g of a kv head from its chunks; factors[c] becomes what turns
// the weights of chunk c into probabilities.
void JoinQuery(const DecodePlan& plan, int64_t kv_head, int64_t g,
               float* factors) {
  const int64_t head_dim = plan.head_dim;
  RowSoftmax all;
  for (int64_t c = 0; c < plan.chunks; ++c) {
    const float top = plan.Rows(kv_head, c)[g].top;
    if (top > all.top || std::isnan(top)) all.top = top;
  }
  for (int64_t c = 0; c < plan.chunks; ++c) {
    const ChunkSoftmax& row = plan.Rows(kv_head, c)[g];
    // exp(-inf - top) is 0: nothing visible in the chunk.
    factors[c] = std::exp(row.top - all.top);
    all.sum += row.sum * factors[c];
  }
  float* out = At(plan.token->out, kv_head * plan.group + g);
  std::memset(out, 0, head_dim * sizeof(float));
  for (int64_t c = 0; c < plan.chunks; ++c) {
    factors[c] /= all.sum;
    AddScaled(plan.Sums(kv_head, c) + g * head_dim, factors[c], out, head_dim);
  }
}

void FinishHead(const DecodePlan& plan, int64_t kv_head, float* factors) {
  const DecodedToken& p = *plan.token;
  for (int64_t g = 0; g < plan.group; ++g) {
    JoinQuery(plan, kv_head, g, factors + g * plan.chunks);
  }
  if (!p.scores.empty()) {
    p.growth.as<float>()[kv_head * p.growth.stride[0]] =
        AddProbabilities(plan, kv_head, factors);
  }
  if (!p.victims.empty()) {
    const int64_t victim = EvictOne(plan, kv_head);
    p.victims.as<int32_t>()[kv_head * p.victims.stride[0]] =
        static_cast<int32_t>(victim);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(AttendChunk);
HWY_EXPORT(FinishHead);

void CacheDecode(const CacheDecodeParams& p, CpuContext& context) {
  if (p.tokens.empty()) return;
  const int64_t kv_heads = p.tokens[0].cache.k.shape[0];
  const BatchPlan batch = PlanDecode(p, &context.shared_scratch);
  const DecodePlan& any = batch.plans[0];
  const int64_t floats =
      any.group * std::max(any.head_dim + 2 * kChunkSlots, batch.max_chunks);
  const auto scratch = [&](int thread) {
    return context.thread_scratch[thread].Reserve<float>(floats);
  };
  context.pool.Run(batch.tasks, [&](int64_t task, int thread) {
    const DecodePlan& plan = batch.Of(task);
    const int64_t i = task - plan.first_task;
    HWY_DYNAMIC_DISPATCH(AttendChunk)
    (plan, i / plan.chunks, i % plan.chunks, scratch(thread));
  });
  context.pool.Run(batch.count * kv_heads, [&](int64_t task, int thread) {
    HWY_DYNAMIC_DISPATCH(FinishHead)
    (batch.plans[task / kv_heads], task % kv_heads, scratch(thread));
  });
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
