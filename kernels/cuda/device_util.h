// Small things that the kernels of several ops share: rows of views, sums of a
// block, notes on bad values.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_DEVICE_UTIL_H_
#define SINKLORA_KERNELS_CUDA_DEVICE_UTIL_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/device_faults.h"
#include "kernels/tensor.h"

namespace sinklora::kernels::cuda {

inline constexpr int kBlockThreads = 256;
inline constexpr int kBlockWarps = kBlockThreads / kWarpThreads;
// Blocks per multiprocessor of kernels that loop over flat arrays.
inline constexpr int kBlocksPerSm = 8;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks of kBlockThreads for a flat loop over n elements, 4 or more a thread.
inline unsigned FlatBlocks(int64_t n, int sm_count) {
  return static_cast<unsigned>(
      std::min<int64_t>(CeilDiv(n, 4 * kBlockThreads),
                        int64_t{kBlocksPerSm} * std::max(1, sm_count)));
}

// A matrix of f32 on the device; `row` counts elements.
struct Rows {
  float* data;
  int64_t row;
  SINKLORA_DEVICE float* operator[](int64_t i) const { return data + i * row; }
};
struct ConstRows {
  const float* data;
  int64_t row;
  SINKLORA_DEVICE const float* operator[](int64_t i) const {
    return data + i * row;
  }
};
inline Rows RowsOf(const TensorView& x) { return {x.as<float>(), x.stride[0]}; }
inline ConstRows RowsOf(const ConstTensorView& x) {
  return {x.as<float>(), x.stride[0]};
}

// f32 or bf16 elements, read as f32.
struct FloatElements {
  const void* data;
  bool bf16;
  SINKLORA_DEVICE float operator[](int64_t i) const {
    return bf16 ? FloatFromBf16(static_cast<const bf16_t*>(data)[i])
                : static_cast<const float*>(data)[i];
  }
};
inline FloatElements ElementsOf(const ConstTensorView& x) {
  return {x.data, x.dtype == DType::kBF16};
}

SINKLORA_DEVICE int64_t FlatThread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
SINKLORA_DEVICE int64_t FlatThreads() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

// Sum over a block of kBlockThreads in an order of its own; all threads get it.
// `shared`: [kBlockWarps], free again on return.
template <typename T>
SINKLORA_DEVICE T BlockSum(T value, T* shared) {
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    value += ShuffleXor(value, mask);
  }
  if (threadIdx.x % kWarpThreads == 0) {
    shared[threadIdx.x / kWarpThreads] = value;
  }
  SyncThreads();
  T sum = shared[0];
  for (int i = 1; i < kBlockWarps; ++i) sum += shared[i];
  SyncThreads();
  return sum;
}

SINKLORA_DEVICE float BlockMax(float value, float* shared) {
  value = MaxOfLanes(value);
  if (threadIdx.x % kWarpThreads == 0) {
    shared[threadIdx.x / kWarpThreads] = value;
  }
  SyncThreads();
  float top = shared[0];
  for (int i = 1; i < kBlockWarps; ++i) top = fmaxf(top, shared[i]);
  SyncThreads();
  return top;
}

// Notes a bad element; the one with the least index stays.
SINKLORA_DEVICE void NoteFault(DeviceFaults* faults, ValueCheck check,
                               int64_t index, uint32_t bits, int64_t limit,
                               int64_t columns = 0) {
  DeviceFault* fault = &faults->of[static_cast<int>(check)];
  const unsigned long long key =
      (static_cast<unsigned long long>(index) << 32) | bits;
  if (AtomicMin(&fault->first, key) > key) {
    fault->limit = limit;
    fault->columns = columns;
  }
}

// Whether low <= value < high; else notes it.
SINKLORA_DEVICE bool InRange(int32_t value, int64_t low, int64_t high,
                             DeviceFaults* faults, ValueCheck check,
                             int64_t index, int64_t columns = 0) {
  if (value >= low && value < high) return true;
  NoteFault(faults, check, index, static_cast<uint32_t>(value), high, columns);
  return false;
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_DEVICE_UTIL_H_
