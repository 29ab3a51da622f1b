// Writing new tokens into a cache and moving kept ones together.
//
// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <utility>

#include "kernels/cache_attention/cache_write_cuda-inl.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

struct Write {
  NewRows k, v;
  DType dtype;
  int head_dim;
  const int32_t* position;
  int64_t position_stride;
  const int32_t* slots;
  int64_t slots_head, slots_token;
  int32_t* positions;
  int64_t positions_head, cache_slots;
};

// A warp a token and kv head.
SINKLORA_GLOBAL void WriteKernel(Write w, DeviceFaults* faults) {
  const int64_t t = blockIdx.x;
  const int64_t h = blockIdx.y;
  const int32_t position = w.position[t * w.position_stride];
  const int32_t slot = w.slots[h * w.slots_head + t * w.slots_token];
  if (!InRange(position, 0, int64_t{1} << 31, faults,
               ValueCheck::kCacheWritePosition, t) ||
      !InRange(slot, 0, w.cache_slots, faults, ValueCheck::kCacheWriteSlots,
               h * gridDim.x + t, gridDim.x)) {
    return;
  }
  WriteRow(w.k, w.dtype, t, h, slot, w.head_dim);
  WriteRow(w.v, w.dtype, t, h, slot, w.head_dim);
  if (threadIdx.x == 0) w.positions[h * w.positions_head + slot] = position;
}

struct Keep {
  const int32_t* data;
  int64_t head, item;  // strides
  int64_t kept, slots;
  SINKLORA_DEVICE int64_t operator()(int64_t h, int64_t i) const {
    return data[h * head + i * item];
  }
  // Whether all of a head's slots may be moved.
  SINKLORA_DEVICE bool Good(int64_t h, int64_t i) const {
    const int64_t from = (*this)(h, i);
    return from >= i && from < slots;
  }
};

SINKLORA_GLOBAL void CheckKeepKernel(Keep keep, DeviceFaults* faults) {
  const int64_t h = blockIdx.y;
  for (int64_t i = FlatThread(); i < keep.kept; i += FlatThreads()) {
    const auto slot = static_cast<int32_t>(keep(h, i));
    const int64_t index = h * keep.kept + i;
    if (!InRange(slot, 0, keep.slots, faults, ValueCheck::kCacheCompactKeep,
                 index, keep.kept)) {
      continue;
    }
    if (i > 0 && slot <= keep(h, i - 1)) {
      NoteFault(faults, ValueCheck::kCacheCompactOrder, index,
                static_cast<uint32_t>(slot), keep(h, i - 1), keep.kept);
    }
  }
}

// Rows of kept slots to or from `packed` [kv_heads, kept, row].
template <typename T>
SINKLORA_GLOBAL void MoveKernel(Keep keep, Strided x, T* packed, int64_t row,
                                bool gather) {
  const int64_t h = blockIdx.y;
  T* data = reinterpret_cast<T*>(x.data) + h * x.head;
  for (int64_t at = FlatThread(); at < keep.kept * row; at += FlatThreads()) {
    const int64_t i = at / row;
    if (!keep.Good(h, i)) continue;
    T* held = packed + h * keep.kept * row + at;
    if (gather) {
      *held = data[keep(h, i) * x.slot + at % row];
    } else {
      data[i * x.slot + at % row] = *held;
    }
  }
}

SINKLORA_GLOBAL void EmptyKernel(int64_t kept, int64_t slots,
                                 int32_t* positions, int64_t positions_head,
                                 float* scores, int64_t scores_head) {
  const int64_t h = blockIdx.y;
  for (int64_t i = kept + FlatThread(); i < slots; i += FlatThreads()) {
    positions[h * positions_head + i] = -1;
    if (scores != nullptr) scores[h * scores_head + i] = 0.0f;
  }
}

// Compacts one tensor of [kv_heads, slots, row] through scratch memory, as
// slots overlap.
template <typename T>
Status Move(const Keep& keep, const TensorView& x, int64_t row,
            CudaContext& context) {
  const int64_t kv_heads = x.shape[0];
  T* packed = nullptr;
  Status status = context.Scratch(kv_heads * keep.kept * row, &packed);
  for (const bool gather : {true, false}) {
    if (!status.ok()) return status;
    status = Launch(
        "cache_compact", MoveKernel<T>,
        {.grid = dim3(FlatBlocks(keep.kept * row, context.device().sm_count),
                      static_cast<unsigned>(kv_heads)),
         .block = dim3(kBlockThreads)},
        context.stream(), keep, StridedOf(x), packed, row, gather);
  }
  return status;
}

Status MoveAny(const Keep& keep, const TensorView& x, CudaContext& context) {
  if (x.empty()) return OkStatus();
  const int64_t row = x.rank == 3 ? x.shape[2] : 1;
  switch (SizeOf(x.dtype)) {
    case 1:
      return Move<uint8_t>(keep, x, row, context);
    case 2:
      return Move<uint16_t>(keep, x, row, context);
    default:
      return Move<uint32_t>(keep, x, row, context);
  }
}

}  // namespace

Status CacheWriteCuda(const CacheWriteParams& p, CudaContext& context) {
  const CacheView& cache = p.cache;
  const Write write{.k = NewRowsOf(p.k, cache.k, cache.k_scale),
                    .v = NewRowsOf(p.v, cache.v, cache.v_scale),
                    .dtype = cache.k.dtype,
                    .head_dim = static_cast<int>(cache.k.shape[2]),
                    .position = p.position.as<int32_t>(),
                    .position_stride = p.position.stride[0],
                    .slots = p.slots.as<int32_t>(),
                    .slots_head = p.slots.stride[0],
                    .slots_token = p.slots.stride[1],
                    .positions = cache.positions.as<int32_t>(),
                    .positions_head = cache.positions.stride[0],
                    .cache_slots = cache.k.shape[1]};
  return Launch("cache_write", WriteKernel,
                {.grid = dim3(static_cast<unsigned>(p.k.shape[0]),
                              static_cast<unsigned>(p.k.shape[1])),
                 .block = dim3(kWarpThreads)},
                context.stream(), write, context.faults());
}

Status CacheCompactCuda(const CacheCompactParams& p, CudaContext& context) {
  const CacheView& cache = p.cache;
  const auto kv_heads = static_cast<unsigned>(cache.k.shape[0]);
  const Keep keep{p.keep.as<int32_t>(), p.keep.stride[0], p.keep.stride[1],
                  p.keep.shape[1], cache.k.shape[1]};
  const int sm_count = context.device().sm_count;
  Status status =
      Launch("cache_compact", CheckKeepKernel,
             {.grid = dim3(FlatBlocks(keep.kept, sm_count), kv_heads),
              .block = dim3(kBlockThreads)},
             context.stream(), keep, context.faults());
  for (const TensorView& x : {cache.k, cache.v, cache.k_scale, cache.v_scale,
                              cache.positions, p.scores}) {
    if (status.ok()) status = MoveAny(keep, x, context);
  }
  if (!status.ok()) return status;
  return Launch(
      "cache_compact", EmptyKernel,
      {.grid = dim3(FlatBlocks(keep.slots - keep.kept, sm_count), kv_heads),
       .block = dim3(kBlockThreads)},
      context.stream(), keep.kept, keep.slots, cache.positions.as<int32_t>(),
      cache.positions.stride[0], p.scores.as<float>(), p.scores.stride[0]);
}

}  // namespace sinklora::kernels::cuda
