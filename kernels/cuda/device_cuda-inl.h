// kernels/cuda/device.h under nvcc, for compute capability 8.0 and up.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_DEVICE_CUDA_INL_H_
#define SINKLORA_KERNELS_CUDA_DEVICE_CUDA_INL_H_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/tensor.h"

#define SINKLORA_GLOBAL __global__
#define SINKLORA_DEVICE __device__ __forceinline__
#define SINKLORA_LAUNCH_BOUNDS(threads, blocks) \
  __launch_bounds__(threads, blocks)
#define SINKLORA_SHARED(type, name) \
  __shared__ ::sinklora::kernels::cuda::SharedType<type> name
#define SINKLORA_UNROLL _Pragma("unroll")
#define SINKLORA_PRAGMA(text) _Pragma(#text)
#define SINKLORA_UNROLL_BY(n) SINKLORA_PRAGMA(unroll n)

namespace sinklora::kernels::cuda {

template <typename T>
using SharedType = T;

template <typename T>
SINKLORA_DEVICE T* DynamicShared() {
  extern __shared__ __align__(128) unsigned char sinklora_dynamic_shared[];
  return reinterpret_cast<T*>(sinklora_dynamic_shared);
}

SINKLORA_DEVICE void SyncThreads() { __syncthreads(); }
SINKLORA_DEVICE void SyncWarp() { __syncwarp(); }

inline constexpr unsigned kAllLanes = 0xffffffffu;
template <typename T>
SINKLORA_DEVICE T Shuffle(T value, int lane) {
  return __shfl_sync(kAllLanes, value, lane);
}
template <typename T>
SINKLORA_DEVICE T ShuffleXor(T value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
template <typename T>
SINKLORA_DEVICE T ShuffleDown(T value, int delta) {
  return __shfl_down_sync(kAllLanes, value, delta);
}
SINKLORA_DEVICE uint32_t Ballot(bool value) {
  return __ballot_sync(kAllLanes, value);
}

SINKLORA_DEVICE float FloatFromBf16(bf16_t value) {
  return __uint_as_float(static_cast<uint32_t>(value) << 16);
}
SINKLORA_DEVICE bf16_t Bf16FromFloat(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
// `low` in the low half.
SINKLORA_DEVICE uint32_t PackBf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

SINKLORA_DEVICE float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

SINKLORA_DEVICE unsigned long long AtomicMin(unsigned long long* to,
                                             unsigned long long value) {
  return atomicMin(to, value);
}
SINKLORA_DEVICE uint32_t AtomicMax(uint32_t* to, uint32_t value) {
  return atomicMax(to, value);
}
SINKLORA_DEVICE int32_t AtomicAdd(int32_t* to, int32_t value) {
  return atomicAdd(to, value);
}
SINKLORA_DEVICE unsigned long long AtomicAdd(unsigned long long* to,
                                             unsigned long long value) {
  return atomicAdd(to, value);
}
SINKLORA_DEVICE int CountBits(uint32_t bits) { return __popc(bits); }
// Of a word that is not 0.
SINKLORA_DEVICE int LowestBit(uint32_t bits) {
  return __ffs(static_cast<int>(bits)) - 1;
}
SINKLORA_DEVICE uint32_t BitsOfFloat(float value) {
  return __float_as_uint(value);
}
SINKLORA_DEVICE float FloatOfBits(uint32_t bits) {
  return __uint_as_float(bits);
}

SINKLORA_DEVICE uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Four 8x8 matrices of 16-bit elements: lane l gives the address (16-byte
// aligned, shared) of row l % 8 of matrix l / 8. r[m] gets the elements of row
// l / 4, columns 2 * (l % 4) and the next, of matrix m.
SINKLORA_DEVICE void LdMatrixX4(uint32_t r[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(row))
               : "memory");
}
// The same of the transposed matrices: r[m] gets rows 2 * (l % 4) and the next
// of column l / 4.
SINKLORA_DEVICE void LdMatrixX4Trans(uint32_t r[4], const void* row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(SharedAddress(row))
      : "memory");
}

// d += a b, with a [16, 16] row-major, b [16, 8] and d [16, 8]. With g = lane /
// 4 and t = lane % 4, pairs of neighbouring columns (of a, d) or rows (of b):
//   a: (g, 2t) (g + 8, 2t) (g, 2t + 8) (g + 8, 2t + 8)
//   b: (2t, g) (2t + 8, g)        d: (g, 2t), (g + 8, 2t)
SINKLORA_DEVICE void MmaBf16_16x8x16(float d[4], const uint32_t a[4],
                                     const uint32_t b[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Starts a copy of 16 bytes to shared memory, of which the first `valid_bytes`
// come from `global` and the rest are zero. Both 16-byte aligned. With
// valid_bytes 0 nothing is read, whatever the address.
SINKLORA_DEVICE void CpAsync16(void* shared, const void* global,
                               int valid_bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   SharedAddress(shared)),
               "l"(global), "r"(valid_bytes)
               : "memory");
}
// Closes the group of copies that this thread has started.
SINKLORA_DEVICE void CpAsyncCommit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits for all of this thread's groups but the last `kGroups`; other threads
// see the copies after a SyncThreads that follows.
template <int kGroups>
SINKLORA_DEVICE void CpAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_DEVICE_CUDA_INL_H_
