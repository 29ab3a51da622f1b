// A slot cache on the host, tokens to fill it with, and the ops over it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_KERNELS_CACHE_ATTENTION_CACHE_FIXTURE_H_
#define SINKLORA_TESTS_KERNELS_CACHE_ATTENTION_CACHE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/kernels/backends.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {

using testing::HostTensor;

// One layer's cache on the host.
struct Cache {
  HostTensor k, v, positions, scores, k_scale, v_scale;
  int64_t used = 0;

  CacheView view() {
    CacheView out{.k = k.view(),
                  .v = v.view(),
                  .positions = positions.view(),
                  .used = used};
    if (out.k.dtype == DType::kI8) {
      out.k_scale = k_scale.view();
      out.v_scale = v_scale.view();
    }
    return out;
  }
};

// Memory that holds no token is NaN: reading it shows.
inline Cache EmptyCache(DType dtype, int64_t kv_heads, int64_t slots,
                        int64_t head_dim, int64_t padding = 0) {
  const std::vector<int64_t> shape{kv_heads, slots, head_dim};
  return {.k = HostTensor::NaNs(dtype, shape, padding),
          .v = HostTensor::NaNs(dtype, shape, padding),
          .positions = HostTensor::Ints(
              {kv_heads, slots}, std::vector<int32_t>(kv_heads * slots, -1)),
          .scores = HostTensor::Zeros(DType::kF32, {kv_heads, slots}),
          .k_scale = HostTensor::NaNs(DType::kF32, {kv_heads, slots}, padding),
          .v_scale = HostTensor::NaNs(DType::kF32, {kv_heads, slots}, padding)};
}

inline HostTensor Range(int32_t begin, int64_t count) {
  std::vector<int32_t> values(count);
  std::iota(values.begin(), values.end(), begin);
  return HostTensor::Ints({count}, values);
}

struct Tokens {
  HostTensor q, k, v;
};

inline Tokens MakeTokens(int64_t tokens, int64_t heads, int64_t kv_heads,
                         int64_t head_dim, uint64_t seed) {
  return {
      HostTensor::Random(DType::kF32, {tokens, heads, head_dim}, seed),
      HostTensor::Random(DType::kF32, {tokens, kv_heads, head_dim}, seed + 1),
      HostTensor::Random(DType::kF32, {tokens, kv_heads, head_dim}, seed + 2)};
}

// Writes tokens [first, first + count) to slots that `slot_of` gives.
template <typename SlotOf>
void Write(Backend& backend, const Tokens& x, int64_t first, int64_t count,
           Cache& cache, SlotOf slot_of) {
  const int64_t kv_heads = cache.k.view().shape[0];
  HostTensor slots = HostTensor::Zeros(DType::kI32, {kv_heads, count});
  for (int64_t h = 0; h < kv_heads; ++h) {
    for (int64_t t = 0; t < count; ++t) {
      slots.Set(static_cast<double>(slot_of(h, first + t)), h, t);
    }
  }
  ASSERT_TRUE(Ok(backend.CacheWrite(
      {.k = x.k.view().Rows(first, count),
       .v = x.v.view().Rows(first, count),
       .position = Range(static_cast<int32_t>(first), count).view(),
       .slots = slots.view(),
       .cache = cache.view()})));
}

// A different order of slots in each head, with holes after every third.
inline int64_t Shuffled(int64_t h, int64_t t) {
  const int64_t spread = t + t / 3;
  return spread % 2 == 0 ? spread + h % 2 : spread - 1 + (h + 1) % 2;
}
inline int64_t InOrder(int64_t, int64_t t) { return t; }

inline float ScaleOf(const Tokens& x) {
  return static_cast<float>(1.0 / std::sqrt(double(x.q.view().shape[2])));
}

// That scores of random tokens stay below.
inline constexpr double kLargestScore = 6.0;

struct Attended {
  HostTensor out, lse;
};

inline Attended Attend(Backend& backend, const Tokens& x, int64_t first,
                       int64_t count, Cache& cache, int64_t window = 0,
                       DType product = DType::kF32) {
  const auto shape = x.q.view().shape;
  Attended r{HostTensor::NaNs(DType::kF32, {count, shape[1], shape[2]}, 1),
             HostTensor::NaNs(DType::kF32, {shape[1], count}, 2)};
  EXPECT_TRUE(Ok(backend.CacheAttention(
      {.q = x.q.view().Rows(first, count),
       .position = Range(static_cast<int32_t>(first), count).view(),
       .cache = cache.view(),
       .scale = ScaleOf(x),
       .window = window,
       .out = r.out.view(),
       .lse = r.lse.view(),
       .product_dtype = product})));
  EXPECT_TRUE(r.out.GapsUntouched() && r.lse.GapsUntouched());
  return r;
}

inline void AddColumnSums(Backend& backend, const Tokens& x, int64_t first,
                          int64_t count, const HostTensor& lse, Cache& cache,
                          int64_t window = 0, DType product = DType::kF32) {
  ASSERT_TRUE(Ok(backend.CacheColumnSums(
      {.q = x.q.view().Rows(first, count),
       .position = Range(static_cast<int32_t>(first), count).view(),
       .lse = lse.view(),
       .cache = cache.view(),
       .scale = ScaleOf(x),
       .window = window,
       .scores = cache.scores.view(),
       .product_dtype = product})));
}

inline double SumOfScores(const Cache& cache, int64_t kv_head) {
  double sum = 0.0;
  for (int64_t j = 0; j < cache.scores.view().shape[1]; ++j) {
    sum += cache.scores.Get(kv_head, j);
  }
  return sum;
}

}  // namespace sinklora::kernels

#endif  // SINKLORA_TESTS_KERNELS_CACHE_ATTENTION_CACHE_FIXTURE_H_
