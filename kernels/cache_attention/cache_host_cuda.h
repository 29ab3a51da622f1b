// What the ops over slot caches on CUDA share on the host.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_HOST_CUDA_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_HOST_CUDA_H_

#include "kernels/cache_attention/cache_attention.h"
#include "kernels/cache_attention/cache_tile_cuda-inl.h"

namespace sinklora::kernels::cuda {

// The fields of the cache; those of queries are left.
CacheArgs ArgsOf(const CacheView& cache, int64_t window, float scale);

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_HOST_CUDA_H_
