// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include "kernels/attention/attention_host_cuda.h"
#include "kernels/cache_attention/cache_attend_cuda-inl.h"
#include "kernels/cache_attention/cache_host_cuda.h"
#include "kernels/cache_attention/cache_tile_cuda-inl.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

// Rows that share the keys of a block when there are many.
constexpr int kManyRows = 8;
// Few rows are cut over tiles of slots, unless the sums of tiles take more.
constexpr int64_t kMaxPartialBytes = int64_t{64} << 20;

// Block (tile, kRows rows, kv head).
template <typename T, int kRows>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kSlotTile, 2)
    TileKernel(CacheArgs a, float* partials) {
  StoreTile<T, kRows>(a, static_cast<int>(blockIdx.x),
                      static_cast<int>(gridDim.x),
                      static_cast<int>(blockIdx.y) * kRows,
                      static_cast<int>(blockIdx.z), partials, nullptr);
}

// Block (row, kv head).
SINKLORA_GLOBAL void CombineKernel(CacheArgs a, CacheOut out, float* partials,
                                   int tiles) {
  CombineTiles(a, out, static_cast<int>(blockIdx.x),
               static_cast<int>(blockIdx.y), partials, tiles);
}

// Block (tile, kv head): scores of its slots += probabilities, row after row.
template <typename T>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kSlotTile, 2)
    ColumnSumsKernel(CacheArgs a, const float* lse, int64_t lse_head,
                     float* scores, int64_t scores_head) {
  const int first = static_cast<int>(blockIdx.x) * kSlotTile;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int slot = first + static_cast<int>(threadIdx.x);
  const CacheShared<T, kManyRows> shared(a.head_dim);
  StartKeys<T>(a, kv_head, first, shared.keys);
  CpAsyncCommit();
  const int stored = SlotPosition(a, kv_head, slot);
  float* saved = scores + kv_head * scores_head + slot;
  float sum = slot < a.used ? *saved : 0.0f;
  for (int first_row = 0; first_row < a.rows; first_row += kManyRows) {
    SyncThreads();  // the rows before are done with
    LoadQueryRows<kManyRows>(a, kv_head, first_row, 1.0f, shared.queries);
    CpAsyncWait<0>();
    SyncThreads();
    float dots[kManyRows];
    ScoreSlot<T, kManyRows>(a, kv_head, slot, shared.queries, shared.keys,
                            dots);
    SINKLORA_UNROLL
    for (int r = 0; r < kManyRows; ++r) {
      const int row = first_row + r;
      if (!SeesSlot(a, row, stored)) continue;
      sum +=
          expf(dots[r] - lse[a.Head(kv_head, row) * lse_head + a.Token(row)]);
    }
  }
  if (slot < a.used) *saved = sum;
}

CachePart PartOf(const TensorView& x, const TensorView& scale) {
  const int64_t size = SizeOf(x.dtype);
  const auto begins_at = [&](int64_t bytes) {
    return (reinterpret_cast<uintptr_t>(x.data) | (x.stride[0] * size) |
            (x.stride[1] * size)) %
               bytes ==
           0;
  };
  return {x.data,          x.stride[0],   x.stride[1],        scale.as<float>(),
          scale.stride[0], begins_at(16), begins_at(2 * size)};
}

template <typename T, int kRows>
Status AttendRows(const CacheArgs& a, const CacheOut& out, unsigned kv_heads,
                  CudaContext& context) {
  return Launch(
      "cache_attention_rows", CacheRowsKernel<T, kRows>,
      {.grid = dim3(static_cast<unsigned>(CeilDiv(a.rows, kRows)), kv_heads),
       .block = dim3(kSlotTile),
       .dynamic_shared_bytes = CacheSharedBytes<T, kRows>(a.head_dim)},
      context.stream(), a, out);
}

int64_t PartialFloats(const CacheArgs& a, int64_t kv_heads) {
  return kv_heads * a.rows * CeilDiv(a.used, kSlotTile) * (a.head_dim + 2);
}

template <typename T, int kRows>
Status AttendTiles(const CacheArgs& a, const CacheOut& out, unsigned kv_heads,
                   CudaContext& context) {
  const auto tiles = static_cast<unsigned>(CeilDiv(a.used, kSlotTile));
  float* partials = nullptr;
  Status status = context.Scratch(PartialFloats(a, kv_heads), &partials);
  if (!status.ok()) return status;
  status =
      Launch("cache_attention_tiles", TileKernel<T, kRows>,
             {.grid = dim3(tiles, static_cast<unsigned>(CeilDiv(a.rows, kRows)),
                           kv_heads),
              .block = dim3(kSlotTile),
              .dynamic_shared_bytes = CacheSharedBytes<T, kRows>(a.head_dim)},
             context.stream(), a, partials);
  if (!status.ok()) return status;
  return Launch("cache_attention_combine", CombineKernel,
                {.grid = dim3(static_cast<unsigned>(a.rows), kv_heads),
                 .block = dim3(kSlotTile)},
                context.stream(), a, out, partials, static_cast<int>(tiles));
}

template <typename T>
Status AttendTiles(const CacheArgs& a, const CacheOut& out, unsigned kv_heads,
                   CudaContext& context) {
  if (a.rows == 1) return AttendTiles<T, 1>(a, out, kv_heads, context);
  if (a.rows <= 4) return AttendTiles<T, 4>(a, out, kv_heads, context);
  return AttendTiles<T, 8>(a, out, kv_heads, context);
}

// The choice changes no bit.
template <typename T>
Status Attend(const CacheArgs& a, const CacheOut& out, unsigned kv_heads,
              CudaContext& context) {
  const int64_t blocks = CeilDiv(a.rows, kManyRows) * kv_heads;
  const bool many = blocks >= 2 * context.device().sm_count ||
                    a.used <= kSlotTile ||
                    PartialFloats(a, kv_heads) * 4 > kMaxPartialBytes;
  return many ? AttendRows<T, kManyRows>(a, out, kv_heads, context)
              : AttendTiles<T>(a, out, kv_heads, context);
}

template <typename T>
Status AddColumns(const CacheColumnSumsParams& p, CudaContext& context) {
  const CacheArgs a = QueryArgsOf(p);
  return Launch(
      "cache_column_sums", ColumnSumsKernel<T>,
      {.grid = dim3(static_cast<unsigned>(CeilDiv(a.used, kSlotTile)),
                    static_cast<unsigned>(p.cache.k.shape[0])),
       .block = dim3(kSlotTile),
       .dynamic_shared_bytes = CacheSharedBytes<T, kManyRows>(a.head_dim)},
      context.stream(), a, p.lse.as<float>(), p.lse.stride[0],
      p.scores.as<float>(), p.scores.stride[0]);
}

}  // namespace

CacheArgs ArgsOf(const CacheView& cache, int64_t window, float scale) {
  CacheArgs a{};
  a.k = PartOf(cache.k, cache.k_scale);
  a.v = PartOf(cache.v, cache.v_scale);
  a.slot_position = cache.positions.as<int32_t>();
  a.slot_head = cache.positions.stride[0];
  a.used = static_cast<int>(cache.used);
  a.head_dim = static_cast<int>(cache.k.shape[2]);
  // Positions are i32: a larger window leaves nothing out.
  a.window = window > std::numeric_limits<int32_t>::max()
                 ? 0
                 : static_cast<int>(window);
  a.scale = scale;
  return a;
}

Status CacheAttentionCuda(const CacheAttentionParams& p, CudaContext& context) {
  const CacheArgs a = QueryArgsOf(p);
  if (a.rows == 0) return OkStatus();
  if (UsesTensorCores(p.product_dtype, a.head_dim)) {
    return AttendOnTensorCores(p, context);
  }
  const CacheOut out{.out = p.out.as<float>(),
                     .out_token = p.out.stride[0],
                     .out_head = p.out.stride[1],
                     .lse = p.lse.as<float>(),
                     .lse_head = p.lse.stride[0],
                     .states = nullptr,
                     .faults = context.faults(),
                     .check = ValueCheck::kCacheAttentionPosition};
  const auto kv_heads = static_cast<unsigned>(p.cache.k.shape[0]);
  switch (p.cache.k.dtype) {
    case DType::kBF16:
      return Attend<bf16_t>(a, out, kv_heads, context);
    case DType::kI8:
      return Attend<int8_t>(a, out, kv_heads, context);
    default:
      return Attend<float>(a, out, kv_heads, context);
  }
}

Status CacheColumnSumsCuda(const CacheColumnSumsParams& p,
                           CudaContext& context) {
  if (p.q.shape[0] == 0 || p.q.shape[1] == 0) return OkStatus();
  if (UsesTensorCores(p.product_dtype, p.q.shape[2])) {
    return AddColumnsOnTensorCores(p, context);
  }
  switch (p.cache.k.dtype) {
    case DType::kBF16:
      return AddColumns<bf16_t>(p, context);
    case DType::kI8:
      return AddColumns<int8_t>(p, context);
    default:
      return AddColumns<float>(p, context);
  }
}

}  // namespace sinklora::kernels::cuda
