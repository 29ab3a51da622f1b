// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "kernels/attention/attention_backward_cuda-inl.h"
#include "kernels/attention/attention_float_backward_cuda-inl.h"
#include "kernels/attention/attention_host_cuda.h"
#include "kernels/cuda/cuda_ops.h"

namespace sinklora::kernels::cuda {
namespace {

Status MakeKeyGrid(const AttentionBackwardParams& p, int tile_rows,
                   int padded_dim, CudaContext& context, KeyGrid* out) {
  const KeyPlan plan = PlanKeys(*p.pattern, p.q.shape[1], tile_rows);
  out->tiles = static_cast<unsigned>(plan.tiles.size());
  out->sink_tiles = static_cast<unsigned>(plan.sinks.size());
  Status status = Upload(plan.tiles, context, &out->keys);
  if (status.ok()) status = Upload(plan.sinks, context, &out->sinks);
  if (!status.ok()) return status;
  return context.Scratch(
      int64_t{plan.partials} * p.k.shape[1] * 2 * tile_rows * padded_dim,
      &out->partials);
}

// What both kinds of arguments have.
template <typename Args>
void FillShape(const AttentionBackwardParams& p, Args* args) {
  args->dq = TokenRowsOf(p.dq);
  args->dk = TokenRowsOf(p.dk);
  args->dv = TokenRowsOf(p.dv);
  args->tokens = p.q.shape[0];
  args->heads = static_cast<int>(p.q.shape[1]);
  args->kv_heads = static_cast<int>(p.k.shape[1]);
  args->head_dim = static_cast<int>(p.q.shape[2]);
  args->window = WindowOf(*p.pattern);
  args->plain_heads = static_cast<int>(p.q.shape[1] - p.pattern->shifted_heads);
  args->scale = p.scale;
}

// The two gradient kernels, then the sums over sinks.
template <typename Args>
Status LaunchGradients(const AttentionBackwardParams& p, Args args,
                       void (*query_kernel)(Args), void (*key_kernel)(Args),
                       int tile_rows, int padded_dim, unsigned threads,
                       int64_t query_shared_bytes, int64_t key_shared_bytes,
                       CudaContext& context) {
  KeyGrid keys;
  Status status = MakeQueryGrid(*p.pattern, p.q.shape[1], p.k.shape[1],
                                tile_rows, context, &args.grid);
  if (status.ok()) {
    status = MakeKeyGrid(p, tile_rows, padded_dim, context, &keys);
  }
  if (!status.ok()) return status;
  args.keys = keys.keys;
  args.partials = keys.partials;
  status = Launch("attention_query_gradients", query_kernel,
                  {.grid = dim3(args.grid.Blocks()),
                   .block = dim3(threads),
                   .dynamic_shared_bytes = query_shared_bytes},
                  context.stream(), args);
  if (!status.ok()) return status;
  status =
      Launch("attention_key_gradients", key_kernel,
             {.grid = dim3(keys.tiles, static_cast<unsigned>(p.k.shape[1])),
              .block = dim3(threads),
              .dynamic_shared_bytes = key_shared_bytes},
             context.stream(), args);
  if (!status.ok()) return status;
  return AddSinks(p, keys, tile_rows, padded_dim, context);
}

template <int D>
Status BackwardOnTensorCores(const AttentionBackwardParams& p,
                             CudaContext& context) {
  using Tile = BackwardTile<D>;
  BackwardArgs args{};
  FillShape(p, &args);
  Status status = SumRows(p, kLog2E, context, &args.lse, &args.delta);
  const auto pack = [&](const char* name, const ConstTensorView& x, float scale,
                        const bf16_t** out) {
    if (status.ok()) status = Pack(name, x, D, scale, true, {}, context, out);
  };
  pack("attention_pack_q", p.q, p.scale, &args.q);
  pack("attention_pack_k", p.k, 1.0f, &args.k);
  pack("attention_pack_v", p.v, 1.0f, &args.v);
  pack("attention_pack_dout", p.dout, 1.0f, &args.dout);
  if (!status.ok()) return status;
  return LaunchGradients(p, args, QueryGradientKernel<D>, KeyGradientKernel<D>,
                         Tile::kHeld, D, kTileThreads, Tile::Shared::kBytes,
                         Tile::Shared::kBytes, context);
}

template <int kMaxDim>
Status BackwardInFloat(const AttentionBackwardParams& p, CudaContext& context) {
  FloatBackwardArgs args{};
  FillShape(p, &args);
  args.q = ConstTokenRowsOf(p.q);
  args.k = ConstTokenRowsOf(p.k);
  args.v = ConstTokenRowsOf(p.v);
  args.dout = ConstTokenRowsOf(p.dout);
  Status status = SumRows(p, 1.0f, context, &args.lse, &args.delta);
  if (!status.ok()) return status;
  return LaunchGradients(p, args, FloatQueryGradientKernel<kMaxDim>,
                         FloatKeyGradientKernel<kMaxDim>, kFloatRows,
                         args.head_dim, kFloatThreads,
                         FloatSharedBytes(args.head_dim, 3, 1),
                         FloatSharedBytes(args.head_dim, 4, 2), context);
}

}  // namespace

Status AttentionBackwardCuda(const AttentionBackwardParams& p,
                             CudaContext& context) {
  const int64_t head_dim = p.q.shape[2];
  if (p.q.shape[0] == 0 || p.q.shape[1] == 0) return OkStatus();
  Status status = ZeroGaps(*p.pattern, true, {p.dq}, context);
  if (status.ok()) {
    status = ZeroGaps(*p.pattern, false, {p.dk, p.dv}, context);
  }
  if (!status.ok()) return status;
  if (UsesTensorCores(p.product_dtype, head_dim)) {
    return WithPaddedDim(head_dim, [&](auto dim) {
      return BackwardOnTensorCores<decltype(dim)::value>(p, context);
    });
  }
  return WithMaxDim(head_dim, [&](auto dim) {
    return BackwardInFloat<decltype(dim)::value>(p, context);
  });
}

}  // namespace sinklora::kernels::cuda
