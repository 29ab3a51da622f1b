// What forward and backward attention on CUDA share on the host.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_HOST_CUDA_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_HOST_CUDA_H_

#include <cstdint>
#include <type_traits>
#include <vector>

#include "kernels/attention/attention_forward_cuda-inl.h"
#include "kernels/attention/attention_pack_cuda-inl.h"
#include "kernels/attention/attention_work_cuda.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {

// Largest head_dim of the tensor-core kernels; beyond it products are f32.
inline constexpr int64_t kMaxTensorCoreDim = 128;

inline bool UsesTensorCores(DType product_dtype, int64_t head_dim) {
  return product_dtype == DType::kBF16 && head_dim <= kMaxTensorCoreDim;
}

// Calls body(std::integral_constant<int, D>) for the D that head_dim is padded
// to.
template <typename Body>
Status WithPaddedDim(int64_t head_dim, Body body) {
  if (head_dim <= 64) return body(std::integral_constant<int, 64>());
  if (head_dim <= 80) return body(std::integral_constant<int, 80>());
  if (head_dim <= 96) return body(std::integral_constant<int, 96>());
  return body(std::integral_constant<int, 128>());
}
template <typename Body>
Status WithMaxDim(int64_t head_dim, Body body) {
  if (head_dim <= 64) return body(std::integral_constant<int, 64>());
  if (head_dim <= 128) return body(std::integral_constant<int, 128>());
  return body(std::integral_constant<int, 256>());
}

inline bool Aligned(const void* data, int64_t token, int64_t head,
                    int64_t bytes) {
  return (reinterpret_cast<uintptr_t>(data) | (token * 4) | (head * 4)) %
             bytes ==
         0;
}
inline ConstTokenRows ConstTokenRowsOf(const ConstTensorView& x) {
  return {x.as<float>(), x.stride[0], x.stride[1],
          Aligned(x.data, x.stride[0], x.stride[1], 16)};
}
inline TokenRows TokenRowsOf(const TensorView& x) {
  return {x.as<float>(), x.stride[0], x.stride[1],
          Aligned(x.data, x.stride[0], x.stride[1], 8)};
}

// A copy of `values` in the op's scratch memory; null when there are none.
template <typename T>
Status Upload(const std::vector<T>& values, CudaContext& context,
              const T** out) {
  *out = nullptr;
  if (values.empty()) return OkStatus();
  const auto count = static_cast<int64_t>(values.size());
  T* data = nullptr;
  Status status = context.Scratch(count, &data);
  if (!status.ok()) return status;
  *out = data;
  return context.CopyToDevice(values.data(), data,
                              count * static_cast<int64_t>(sizeof(T)));
}

// Copies x to [heads / group, tokens, group, padded_dim] in scratch memory.
Status Pack(const char* name, const ConstTensorView& x, int padded_dim,
            float scale, bool only_finite, Marks marks, CudaContext& context,
            const bf16_t** out, int group = 1);

// Uploads the query tiles of `tile_rows` and describes their grid.
Status MakeQueryGrid(const AttentionPattern& pattern, int64_t heads,
                     int64_t kv_heads, int64_t tile_rows, CudaContext& context,
                     QueryGrid* out);

// Zeros for Gaps(pattern, tokens, leads) of each of `outputs` [tokens, heads or
// kv_heads, head_dim].
Status ZeroGaps(const AttentionPattern& pattern, bool leads,
                const std::vector<TensorView>& outputs, CudaContext& context);

// delta = rowsum(dout * out) and lse times `lse_factor`, [heads, tokens] in
// scratch memory. lse is NaN where delta is not finite.
Status SumRows(const AttentionBackwardParams& p, float lse_factor,
               CudaContext& context, const float** lse, const float** delta);

// The key tiles on the device, and room for partial sums of sinks.
struct KeyGrid {
  unsigned tiles = 0;
  unsigned sink_tiles = 0;
  const KeyWork* keys = nullptr;
  const SinkWork* sinks = nullptr;
  float* partials = nullptr;  // [partials, kv_heads, 2, tile_rows, padded_dim]
};

// Writes the gradients of sinks, whose partial sums lie in `grid`.
Status AddSinks(const AttentionBackwardParams& p, const KeyGrid& grid,
                int tile_rows, int padded_dim, CudaContext& context);

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_HOST_CUDA_H_
