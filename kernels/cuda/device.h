// What CUDA kernels are written against. Under nvcc the names below are CUDA;
// with SINKLORA_CUDA_EMULATION defined as the name of a header, that header
// supplies them and the same source runs on the CPU as plain C++. Nothing else
// of CUDA's language is used in kernels, save threadIdx, blockIdx, blockDim,
// gridDim, float2, float4, uint2, uint4 and the C functions of <math.h>.
//
// Supplied by either side, in namespace sinklora::kernels::cuda:
//   SINKLORA_GLOBAL, SINKLORA_DEVICE      a kernel; a function it calls
//   SINKLORA_LAUNCH_BOUNDS(threads, blocks)   between `void` and the name
//   SINKLORA_SHARED(type, name)           static shared memory of a block,
//                                         e.g. SINKLORA_SHARED(float[32], sums)
//   SINKLORA_UNROLL                       before a loop of fixed length
//   SINKLORA_UNROLL_BY(n)                 before any loop
//   DynamicShared<T>()                    the launch's dynamic shared memory,
//                                         128-byte aligned
//   SyncThreads(), SyncWarp()             all threads of block or warp
//   Shuffle(v, lane), ShuffleXor(v, mask), ShuffleDown(v, delta), Ballot(b)
//   LdMatrixX4, LdMatrixX4Trans, MmaBf16_16x8x16, CpAsync16, CpAsyncCommit,
//   CpAsyncWait<n>                        as documented below
//   Bf16FromFloat, FloatFromBf16, PackBf16    round to nearest even
//   Exp2                                  2^x to 2 ulp, 0 for -inf
//   AtomicMin, AtomicMax, AtomicAdd       of integers; the value before
//   CountBits, LowestBit, BitsOfFloat, FloatOfBits    of 32 bits
// Warp operations take all 32 lanes, so blocks are multiples of 32 threads.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_DEVICE_H_
#define SINKLORA_KERNELS_CUDA_DEVICE_H_

#include <math.h>

#include <cstdint>

#include "kernels/tensor.h"

#ifdef SINKLORA_CUDA_EMULATION
#include SINKLORA_CUDA_EMULATION
#else
#include "kernels/cuda/device_cuda-inl.h"
#endif

namespace sinklora::kernels::cuda {

inline constexpr int kWarpThreads = 32;

// The two values of a packed pair.
SINKLORA_DEVICE float LowOfBf16Pair(uint32_t pair) {
  return FloatFromBf16(static_cast<bf16_t>(pair & 0xffffu));
}
SINKLORA_DEVICE float HighOfBf16Pair(uint32_t pair) {
  return FloatFromBf16(static_cast<bf16_t>(pair >> 16));
}

// Reductions over aligned sets of `lanes` (a power of two) lanes of a warp;
// each lane gets the result. The order is fixed.
SINKLORA_DEVICE float SumOfLanes(float value, int lanes = kWarpThreads) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    value += ShuffleXor(value, mask);
  }
  return value;
}
SINKLORA_DEVICE float MaxOfLanes(float value, int lanes = kWarpThreads) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    value = fmaxf(value, ShuffleXor(value, mask));
  }
  return value;
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_DEVICE_H_
