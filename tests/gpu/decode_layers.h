// A decoded token through layers of a Llama, for the benchmarks: bf16 weights,
// which all layers share as they share a bf16 cache, so that much is read and
// little is held.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_GPU_DECODE_LAYERS_H_
#define SINKLORA_TESTS_GPU_DECODE_LAYERS_H_

#include <cstdint>

#include "kernels/cache_decode/cache_decode.h"
#include "kernels/cuda/cuda_context.h"
#include "tests/gpu/bench_memory.h"

namespace sinklora::gpu_check {

struct LayerShape {
  int64_t hidden = 4096, ffn = 14336;
  int64_t heads = 32, kv_heads = 8, head_dim = 128;
  int64_t used = 4096;  // slots of the cache
  int64_t layers = 8;
};

class DecodeLayers {
 public:
  DecodeLayers(kernels::cuda::CudaContext* context, const LayerShape& shape);
  kernels::Status Init();

  // That a step reads.
  double bytes() const;
  // A step, op by op.
  kernels::Status Run();
  // The same as ops that repeat: run, then recorded, then repeated.
  kernels::Status RunRepeated();

 private:
  kernels::Status RunLayer();
  kernels::Status Linear(const kernels::TensorView& x,
                         const kernels::TensorView& w,
                         const kernels::TensorView& out);
  kernels::Status Rotate(const kernels::TensorView& x);
  kernels::Status Norm(const kernels::TensorView& x);
  kernels::Status Add(const kernels::TensorView& x,
                      const kernels::TensorView& out);
  template <typename Params>
  kernels::Status Ask(kernels::Status (*op)(const Params&,
                                            kernels::cuda::CudaContext&),
                      const Params& p);

  kernels::cuda::CudaContext* const context_;
  const LayerShape shape_;
  Memory memory_;
  kernels::TensorView wq_, wk_, wv_, wo_, gate_, up_, down_, norm_, cos_, sin_;
  kernels::TensorView x_, middle_, normed_, q_, k_, v_, attended_;
  kernels::TensorView a_, b_, position_, slots_;
  kernels::DecodedToken token_;
  kernels::CacheDecodeParams decode_;
};

}  // namespace sinklora::gpu_check

#endif  // SINKLORA_TESTS_GPU_DECODE_LAYERS_H_
