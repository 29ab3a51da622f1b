// What the kernels of cache_decode know of a token, in device memory.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_TOKEN_CUDA_INL_H_
#define SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_TOKEN_CUDA_INL_H_

#include <cstdint>

#include "kernels/cache_attention/cache_attend_cuda-inl.h"
#include "kernels/cache_attention/cache_write_cuda-inl.h"
#include "kernels/tensor.h"

namespace sinklora::kernels::cuda {

struct Books {
  const float* raw;     // [kv_heads, group, used], times log2(e)
  const float* states;  // [kv_heads, group, 2]: top and total
  int32_t* positions;   // [kv_heads, slots], rows positions_head apart
  int64_t positions_head;
  float* scores;  // [kv_heads, slots], rows scores_head apart; or null
  int64_t scores_head;
  float* growth;     // [kv_heads], with scores
  int32_t* victims;  // [kv_heads]; or null
  int used, group;
  int64_t latest, window, sink_tokens, recent_tokens;
};

struct TokenArgs {
  NewRows k, v;
  DType storage;
  const int32_t* slots;  // [kv_heads], slots_head apart
  int64_t slots_head;
  CacheArgs a;
  CacheOut out;
  int tiles;
  float* partials;  // sums of tiles
  float* raw;       // [kv_heads, group, used], with scores; else null
  bool keeps_books;
  Books books;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CACHE_DECODE_CACHE_DECODE_TOKEN_CUDA_INL_H_
