// What a bounded cache keeps count of after a decoded token: scores, and the
// token that goes. Included once per target.
//
// SPDX-License-Identifier: Apache-2.0
#if defined(SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_BOOKS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_BOOKS_INL_H_
#undef SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_BOOKS_INL_H_
#else
#define SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_BOOKS_INL_H_
#endif

#include <algorithm>
#include <bit>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cache_decode/cache_decode.h"
#include "kernels/cache_decode/cache_decode_plan.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {

// scores[j] += the probabilities of the group's queries, which are weights of
// the plan times factors [group][chunks]. Returns what the sum grew by.
HWY_INLINE float AddProbabilities(const DecodePlan& plan, int64_t kv_head,
                                  const float* factors) {
  const DecodedToken& p = *plan.token;
  const F32Tag d;
  F32Vec growth = hn::Zero(d);
  for (int64_t c = 0; c < plan.chunks; ++c) {
    const int64_t first = c * kChunkSlots;
    float* scores = At(p.scores, kv_head) + first;
    const float* weights = plan.Weights(kv_head, c, nullptr);
    ForEachVector(std::min(kChunkSlots, p.cache.used - first),
                  [&](int64_t j, auto lanes) HWY_ATTR {
                    F32Vec added = hn::Zero(d);
                    for (int64_t g = 0; g < plan.group; ++g) {
                      added = hn::MulAdd(
                          lanes.Load(d, weights + g * plan.weights_stride + j),
                          hn::Set(d, factors[g * plan.chunks + c]), added);
                    }
                    const F32Vec before = lanes.Load(d, scores + j);
                    const F32Vec after = hn::Add(before, added);
                    // What the sum lost to rounding is not growth.
                    growth = hn::Add(growth, hn::Sub(after, before));
                    lanes.Store(after, d, scores + j);
                  });
  }
  return Sum(d, growth);
}

// Smallest key of the slots with a position in [first, last]: the bits of the
// score, which ascend with it as scores are >= 0 and put NaN last, then the
// position. Without scores the position alone. kNoKey when there is none.
inline constexpr uint64_t kNoKey = ~uint64_t{0};
inline constexpr uint64_t kInfinityBits = 0x7f800000;
inline uint64_t SmallestKey(const int32_t* positions, const float* scores,
                            int64_t used, int64_t first, int64_t last) {
  uint64_t smallest = kNoKey;
  for (int64_t j = 0; j < used; ++j) {
    const int64_t at = positions[j];
    const uint64_t score =
        scores == nullptr ? 0 : std::bit_cast<uint32_t>(scores[j]);
    const uint64_t key = score << 32 | static_cast<uint32_t>(at);
    const bool candidate = at >= first && at <= last;
    smallest = std::min(smallest, candidate ? key : kNoKey);
  }
  return smallest;
}

// Evicts one token of a kv head and returns its slot, or -1.
inline int64_t EvictOne(const DecodePlan& plan, int64_t kv_head) {
  const DecodedToken& p = *plan.token;
  int32_t* positions =
      p.cache.positions.as<int32_t>() + kv_head * p.cache.positions.stride[0];
  float* scores = p.scores.empty() ? nullptr : At(p.scores, kv_head);
  const int64_t used = p.cache.used;
  const int64_t latest = p.position;
  uint64_t key = kNoKey;
  if (plan.window > 0) {  // what the query after this one does not see
    key = SmallestKey(positions, nullptr, used, 0, latest + 1 - plan.window);
  }
  if (key == kNoKey) {
    key = SmallestKey(positions, scores, used, p.sink_tokens,
                      latest - p.recent_tokens);
  }
  if (key >> 32 > kInfinityBits) return -1;  // none, or NaN
  const auto evicted = static_cast<int32_t>(key);
  const int64_t victim =
      std::find(positions, positions + used, evicted) - positions;
  positions[victim] = -1;
  if (scores != nullptr) scores[victim] = 0.0f;
  return victim;
}

}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_BOOKS_INL_H_
