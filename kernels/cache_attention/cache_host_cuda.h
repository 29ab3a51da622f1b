// What the ops over slot caches on CUDA share on the host.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_HOST_CUDA_H_
#define SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_HOST_CUDA_H_

#include "kernels/cache_attention/cache_attention.h"
#include "kernels/cache_attention/cache_tile_cuda-inl.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/status.h"

namespace sinklora::kernels::cuda {

// The fields of the cache; those of queries are left.
CacheArgs ArgsOf(const CacheView& cache, int64_t window, float scale);

// What attention and column sums have in common.
template <typename Params>
CacheArgs QueryArgsOf(const Params& p) {
  CacheArgs a = ArgsOf(p.cache, p.window, p.scale);
  a.q = p.q.template as<float>();
  a.q_token = p.q.stride[0];
  a.q_head = p.q.stride[1];
  a.position = p.position.template as<int32_t>();
  a.group = static_cast<int>(p.q.shape[1] / p.cache.k.shape[0]);
  a.rows = static_cast<int>(p.q.shape[0]) * a.group;
  return a;
}

// With products of bf16 operands. REQUIRES: UsesTensorCores, and there are
// rows.
Status AttendOnTensorCores(const CacheAttentionParams& p, CudaContext& context);
Status AddColumnsOnTensorCores(const CacheColumnSumsParams& p,
                               CudaContext& context);

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CACHE_ATTENTION_CACHE_HOST_CUDA_H_
