// What the ops over slot caches on CUDA share on the host.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_HOST_CUDA_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_HOST_CUDA_H_

#include "kernels/cache_attention/cache_attend_cuda-inl.h"
#include "kernels/cache_attention/cache_attention.h"
#include "kernels/cuda/cuda_context.h"

namespace sinklora::kernels::cuda {

// The fields of the cache; those of queries are left.
CacheArgs ArgsOf(const CacheView& cache, int64_t window, float scale);

// Attention of few rows: one block a tile of slots, then their sums in order.
// `scores` [kv_heads, rows, used], unless null, gets the scores times log2(e).
Status AttendInTiles(DType storage, const CacheArgs& a, const CacheOut& out,
                     int64_t kv_heads, float* scores, CudaContext& context);

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_HOST_CUDA_H_
