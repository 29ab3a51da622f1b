// Serving attention on tensor cores: what it attends to, as bf16 in scratch
// memory, and the launches.
//
// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "kernels/attention/attention_host_cuda.h"
#include "kernels/attention/attention_pack_cuda-inl.h"
#include "kernels/cache_attention/cache_host_cuda.h"
#include "kernels/cache_attention/cache_mma_cuda-inl.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

constexpr int kPackWarps = kPackThreads / kWarpThreads;

// Eight elements of a slot, as what its codes mean.
template <typename T>
SINKLORA_DEVICE void LoadSlot(const CachePart& part, int kv_head, int slot,
                              int column, float x[8]) {
  const T* from = static_cast<const T*>(part.data) + kv_head * part.head +
                  slot * part.slot + column;
  if (part.units) {
    LoadOctet(from, x);
  } else {
    SINKLORA_UNROLL
    for (int i = 0; i < 8; ++i) x[i] = FloatOf(from[i]);
  }
  if (part.scale == nullptr) return;
  const float scale = part.scale[kv_head * part.scale_head + slot];
  SINKLORA_UNROLL
  for (int i = 0; i < 8; ++i) x[i] *= scale;
}

struct PackSlotsArgs {
  CacheArgs cache;
  bf16_t* k;  // [kv_heads, used, padded_dim]
  bf16_t* v;  // the same; or null
  Marks marks;
  int kv_heads, padded_dim;
};

// A thread eight elements. Slots that hold nothing become zeros.
template <typename T>
SINKLORA_GLOBAL void PackSlotsKernel(PackSlotsArgs a) {
  const int units = a.padded_dim / 8;
  const int64_t i =
      static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  const int64_t row = i / units;
  const int column = static_cast<int>(i % units) * 8;
  if (row >= static_cast<int64_t>(a.kv_heads) * a.cache.used) return;
  const int kv_head = static_cast<int>(row / a.cache.used);
  const int slot = static_cast<int>(row % a.cache.used);
  float k[8] = {}, v[8] = {};
  if (column < a.cache.head_dim && SlotPosition(a.cache, kv_head, slot) >= 0) {
    LoadSlot<T>(a.cache.k, kv_head, slot, column, k);
    if (a.v != nullptr) LoadSlot<T>(a.cache.v, kv_head, slot, column, v);
  }
  *reinterpret_cast<uint4*>(a.k + row * a.padded_dim + column) = PackEight(k);
  if (a.v == nullptr) return;
  bool bad = false;
  SINKLORA_UNROLL
  for (int j = 0; j < 8; ++j) {
    const bool drop = !IsFinite(v[j]);
    bad = bad || drop;
    if (drop) v[j] = 0.0f;
  }
  if (bad) {
    // The same from every thread that writes.
    a.marks.bad[row] = 1;
    *a.marks.any = 1;
  }
  *reinterpret_cast<uint4*>(a.v + row * a.padded_dim + column) = PackEight(v);
}

// A warp a tile of slots.
SINKLORA_GLOBAL void RangesKernel(CacheArgs a, int tiles,
                                  PositionRange* ranges) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int tile = static_cast<int>(blockIdx.x) * kPackWarps + warp;
  const int kv_head = static_cast<int>(blockIdx.y);
  const PositionRange range =
      RangeOfLanes(SlotPosition(a, kv_head, tile * kMmaStream + lane));
  if (lane == 0 && tile < tiles) ranges[kv_head * tiles + tile] = range;
}

Status PackSlots(DType dtype, const PackSlotsArgs& args, CudaContext& context) {
  const int64_t threads = static_cast<int64_t>(args.kv_heads) *
                          args.cache.used * (args.padded_dim / 8);
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(CeilDiv(threads, kPackThreads))),
      .block = dim3(kPackThreads)};
  const char* name = "cache_attention_pack";
  switch (dtype) {
    case DType::kBF16:
      return Launch(name, PackSlotsKernel<bf16_t>, shape, context.stream(),
                    args);
    case DType::kI8:
      return Launch(name, PackSlotsKernel<int8_t>, shape, context.stream(),
                    args);
    default:
      return Launch(name, PackSlotsKernel<float>, shape, context.stream(),
                    args);
  }
}

// Queries and keys, and values where `values`.
template <typename Params>
Status PackAll(const Params& p, int padded_dim, bool values,
               CudaContext& context, CacheMmaArgs* out) {
  out->cache = QueryArgsOf(p);
  PackSlotsArgs slots{.cache = out->cache,
                      .k = nullptr,
                      .v = nullptr,
                      .marks = {},
                      .kv_heads = static_cast<int>(p.cache.k.shape[0]),
                      .padded_dim = padded_dim};
  const int64_t rows = slots.kv_heads * p.cache.used;
  Status status = Pack("cache_attention_pack_q", p.q, padded_dim, p.scale,
                       false, {}, context, &out->q, out->cache.group);
  if (status.ok()) status = context.Scratch(rows * padded_dim, &slots.k);
  if (status.ok() && values) {
    status = context.Scratch(rows * padded_dim, &slots.v);
    if (status.ok()) status = context.Scratch(rows, &slots.marks.bad);
    if (status.ok()) status = context.Scratch(1, &slots.marks.any);
    if (status.ok() && rows > 0) {
      status = context.runtime().Zero(slots.marks.bad, rows);
    }
    if (status.ok()) {
      status = context.runtime().Zero(slots.marks.any, sizeof(int));
    }
  }
  out->k = slots.k;
  out->v = slots.v;
  out->marks = slots.marks;
  return status.ok() ? PackSlots(p.cache.k.dtype, slots, context) : status;
}

Status FindRanges(int kv_heads, CudaContext& context, CacheMmaArgs* out) {
  const auto tiles = static_cast<int>(CeilDiv(out->cache.used, kMmaStream));
  PositionRange* ranges = nullptr;
  Status status =
      context.Scratch(static_cast<int64_t>(kv_heads) * tiles, &ranges);
  if (!status.ok()) return status;
  out->ranges = ranges;
  return Launch("cache_attention_ranges", RangesKernel,
                {.grid = dim3(static_cast<unsigned>(CeilDiv(tiles, kPackWarps)),
                              static_cast<unsigned>(kv_heads)),
                 .block = dim3(kPackThreads)},
                context.stream(), out->cache, tiles, ranges);
}

template <int D>
Status Attend(const CacheAttentionParams& p, CudaContext& context) {
  const auto kv_heads = static_cast<int>(p.cache.k.shape[0]);
  CacheMmaArgs args{};
  Status status = PackAll(p, D, true, context, &args);
  if (status.ok()) status = FindRanges(kv_heads, context, &args);
  if (!status.ok()) return status;
  const CacheMmaOut out{.out = TokenRowsOf(p.out),
                        .lse = p.lse.as<float>(),
                        .lse_head = p.lse.stride[0],
                        .faults = context.faults()};
  return Launch(
      "cache_attention_forward", CacheForwardKernel<D>,
      {.grid = dim3(static_cast<unsigned>(CeilDiv(args.cache.rows, kMmaHeld)),
                    static_cast<unsigned>(kv_heads)),
       .block = dim3(kTileThreads),
       .dynamic_shared_bytes = ForwardTile<D>::Shared::kBytes},
      context.stream(), args, out);
}

template <int D>
Status AddColumns(const CacheColumnSumsParams& p, CudaContext& context) {
  CacheMmaArgs args{};
  Status status = PackAll(p, D, false, context, &args);
  if (!status.ok()) return status;
  const ColumnArgs columns{.lse = p.lse.as<float>(),
                           .lse_head = p.lse.stride[0],
                           .scores = p.scores.as<float>(),
                           .scores_head = p.scores.stride[0]};
  return Launch(
      "cache_column_sums", CacheColumnsKernel<D>,
      {.grid = dim3(static_cast<unsigned>(CeilDiv(args.cache.used, kMmaHeld)),
                    static_cast<unsigned>(p.cache.k.shape[0])),
       .block = dim3(kTileThreads),
       .dynamic_shared_bytes = ForwardTile<D>::Shared::kBytes},
      context.stream(), args, columns);
}

}  // namespace

Status AttendOnTensorCores(const CacheAttentionParams& p,
                           CudaContext& context) {
  return WithPaddedDim(p.q.shape[2], [&](auto dim) {
    return Attend<decltype(dim)::value>(p, context);
  });
}

Status AddColumnsOnTensorCores(const CacheColumnSumsParams& p,
                               CudaContext& context) {
  return WithPaddedDim(p.q.shape[2], [&](auto dim) {
    return AddColumns<decltype(dim)::value>(p, context);
  });
}

}  // namespace sinklora::kernels::cuda
