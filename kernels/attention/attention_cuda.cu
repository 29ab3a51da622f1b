// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "kernels/attention/attention_float_cuda-inl.h"
#include "kernels/attention/attention_forward_cuda-inl.h"
#include "kernels/attention/attention_host_cuda.h"
#include "kernels/cuda/cuda_ops.h"

namespace sinklora::kernels::cuda {

namespace {

// Packs values with marks of rows that are not finite.
Status PackValues(const ConstTensorView& v, int padded_dim,
                  CudaContext& context, ForwardArgs* args) {
  const int64_t rows = v.shape[0] * v.shape[1];
  uint8_t* bad = nullptr;
  Status status = context.Scratch(rows + int64_t{sizeof(int)}, &bad);
  if (!status.ok()) return status;
  int* any = nullptr;
  status = context.Scratch(1, &any);
  if (status.ok()) status = context.runtime().Zero(bad, rows);
  if (status.ok()) status = context.runtime().Zero(any, sizeof(int));
  if (!status.ok()) return status;
  args->marks = {bad, any};
  return Pack("attention_pack_v", v, padded_dim, 1.0f, true, args->marks,
              context, &args->v);
}

template <int D>
Status ForwardOnTensorCores(const AttentionForwardParams& p,
                            CudaContext& context) {
  using Tile = ForwardTile<D>;
  ForwardArgs args{};
  args.q = ConstTokenRowsOf(p.q);
  args.out = TokenRowsOf(p.out);
  args.lse = p.lse.as<float>();
  args.lse_head = p.lse.stride[0];
  args.tokens = p.q.shape[0];
  args.head_dim = static_cast<int>(p.q.shape[2]);
  args.window = WindowOf(*p.pattern);
  args.scale = p.scale;
  Status status = MakeQueryGrid(*p.pattern, p.q.shape[1], p.k.shape[1],
                                Tile::kQueries, context, &args.grid);
  if (status.ok()) {
    status =
        Pack("attention_pack_k", p.k, D, 1.0f, false, {}, context, &args.k);
  }
  if (status.ok()) status = PackValues(p.v, D, context, &args);
  if (!status.ok()) return status;
  return Launch("attention_forward", ForwardKernel<D>,
                {.grid = dim3(args.grid.Blocks()),
                 .block = dim3(kTileThreads),
                 .dynamic_shared_bytes = Tile::Shared::kBytes},
                context.stream(), args);
}

template <int kMaxDim>
Status ForwardInFloat(const AttentionForwardParams& p, CudaContext& context) {
  FloatForwardArgs args{};
  args.q = ConstTokenRowsOf(p.q);
  args.k = ConstTokenRowsOf(p.k);
  args.v = ConstTokenRowsOf(p.v);
  args.out = TokenRowsOf(p.out);
  args.lse = p.lse.as<float>();
  args.lse_head = p.lse.stride[0];
  args.head_dim = static_cast<int>(p.q.shape[2]);
  args.window = WindowOf(*p.pattern);
  args.scale = p.scale;
  Status status = MakeQueryGrid(*p.pattern, p.q.shape[1], p.k.shape[1],
                                kFloatRows, context, &args.grid);
  if (!status.ok()) return status;
  return Launch("attention_forward_f32", FloatForwardKernel<kMaxDim>,
                {.grid = dim3(args.grid.Blocks()),
                 .block = dim3(kFloatThreads),
                 .dynamic_shared_bytes = FloatSharedBytes(args.head_dim, 2, 1)},
                context.stream(), args);
}

}  // namespace

Status AttentionForwardCuda(const AttentionForwardParams& p,
                            CudaContext& context) {
  const int64_t tokens = p.q.shape[0];
  const int64_t head_dim = p.q.shape[2];
  if (tokens == 0 || p.q.shape[1] == 0) return OkStatus();
  std::vector<TensorView> outputs{p.out};
  if (!p.lse.empty()) {
    // [tokens, heads, 1]
    TensorView lse(p.lse.data, DType::kF32, {tokens, p.q.shape[1], 1});
    lse.stride = {1, p.lse.stride[0], 1, 1};
    outputs.push_back(lse);
  }
  Status status = ZeroGaps(*p.pattern, true, outputs, context);
  if (!status.ok()) return status;
  if (UsesTensorCores(p.product_dtype, head_dim)) {
    return WithPaddedDim(head_dim, [&](auto dim) {
      return ForwardOnTensorCores<decltype(dim)::value>(p, context);
    });
  }
  return WithMaxDim(head_dim, [&](auto dim) {
    return ForwardInFloat<decltype(dim)::value>(p, context);
  });
}

}  // namespace sinklora::kernels::cuda
