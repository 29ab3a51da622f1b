// kernels/cuda/device.h on the CPU: SINKLORA_CUDA_EMULATION names this header.
// The lane layouts of the matrix operations are those of the PTX manual.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_CUDA_EMULATION_DEVICE_EMULATION_H_
#define SINKLORA_TESTS_TESTING_CUDA_EMULATION_DEVICE_EMULATION_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/tensor.h"
#include "tests/testing/cuda_emulation/engine.h"
#include "tests/testing/cuda_emulation/runtime.h"
#include "tests/testing/cuda_emulation/types.h"

#define SINKLORA_GLOBAL
#define SINKLORA_DEVICE inline
#define SINKLORA_LAUNCH_BOUNDS(threads, blocks)
#define SINKLORA_SHARED(type, name)                       \
  static const char name##_key = 0;                       \
  auto& name = ::sinklora::kernels::cuda::SharedVariable< \
      ::sinklora::kernels::cuda::SharedType<type>>(&name##_key)
#define SINKLORA_UNROLL
#define SINKLORA_UNROLL_BY(n)

namespace sinklora::kernels::cuda {

template <typename T>
using SharedType = T;

template <typename T>
T& SharedVariable(const void* key) {
  return *static_cast<T*>(emulation::StaticShared(key, sizeof(T), alignof(T)));
}

template <typename T>
T* DynamicShared() {
  return static_cast<T*>(emulation::DynamicSharedMemory());
}

inline void SyncThreads() { emulation::BlockBarrier(); }
inline void SyncWarp() {
  emulation::WarpCollective(
      "SyncWarp", [](void* const*) {}, nullptr);
}

// What a lane brings to a shuffle and takes from it.
template <typename T>
struct ShuffleOperand {
  T value;
  int lane;  // to read from; beyond the warp: keeps its own
};

template <typename T>
void PerformShuffle(void* const operands[emulation::kLanes]) {
  T values[emulation::kLanes];
  for (int i = 0; i < emulation::kLanes; ++i) {
    values[i] = static_cast<ShuffleOperand<T>*>(operands[i])->value;
  }
  for (int i = 0; i < emulation::kLanes; ++i) {
    auto* operand = static_cast<ShuffleOperand<T>*>(operands[i]);
    if (operand->lane < emulation::kLanes) {
      operand->value = values[operand->lane];
    }
  }
}

inline int LaneIndex() {
  return static_cast<int>(
      (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) %
      emulation::kLanes);
}

template <typename T>
T ShuffleFrom(T value, int lane) {
  ShuffleOperand<T> operand{value, lane};
  emulation::WarpCollective("Shuffle", PerformShuffle<T>, &operand);
  return operand.value;
}

template <typename T>
T Shuffle(T value, int lane) {
  return ShuffleFrom(value, lane % emulation::kLanes);
}
template <typename T>
T ShuffleXor(T value, int mask) {
  return ShuffleFrom(value, LaneIndex() ^ mask);
}
template <typename T>
T ShuffleDown(T value, int delta) {
  return ShuffleFrom(value, LaneIndex() + delta);
}
inline uint32_t Ballot(bool value) {
  uint32_t bits = value ? 1u << LaneIndex() : 0u;
  emulation::WarpCollective(
      "Ballot",
      [](void* const operands[]) {
        uint32_t all = 0;
        for (int i = 0; i < emulation::kLanes; ++i) {
          all |= *static_cast<uint32_t*>(operands[i]);
        }
        for (int i = 0; i < emulation::kLanes; ++i) {
          *static_cast<uint32_t*>(operands[i]) = all;
        }
      },
      &bits);
  return bits;
}

inline float FloatFromBf16(bf16_t value) { return FromBf16(value); }
inline bf16_t Bf16FromFloat(float value) { return ToBf16(value); }
inline uint32_t PackBf16(float low, float high) {
  return uint32_t{ToBf16(low)} | uint32_t{ToBf16(high)} << 16;
}

inline float Exp2(float x) { return std::exp2(x); }

// Threads switch at barriers only, so that nothing comes between.
template <typename T>
T Exchange(T* to, T value) {
  const T before = *to;
  *to = value;
  return before;
}
inline unsigned long long AtomicMin(unsigned long long* to,
                                    unsigned long long value) {
  return Exchange(to, std::min(*to, value));
}
inline uint32_t AtomicMax(uint32_t* to, uint32_t value) {
  return Exchange(to, std::max(*to, value));
}
inline int32_t AtomicAdd(int32_t* to, int32_t value) {
  return Exchange(to, *to + value);
}
inline unsigned long long AtomicAdd(unsigned long long* to,
                                    unsigned long long value) {
  return Exchange(to, *to + value);
}
inline int CountBits(uint32_t bits) { return std::popcount(bits); }
inline int LowestBit(uint32_t bits) { return std::countr_zero(bits); }
inline uint32_t BitsOfFloat(float value) {
  return std::bit_cast<uint32_t>(value);
}
inline float FloatOfBits(uint32_t bits) { return std::bit_cast<float>(bits); }

struct LdMatrixOperand {
  uint32_t* r;
  const void* row;
};

template <bool kTrans>
void PerformLdMatrix(void* const operands[emulation::kLanes]) {
  const auto element = [&](int matrix, int row, int column) {
    const auto* from =
        static_cast<const LdMatrixOperand*>(operands[matrix * 8 + row]);
    return static_cast<const uint16_t*>(from->row)[column];
  };
  for (int lane = 0; lane < emulation::kLanes; ++lane) {
    const int g = lane / 4;
    const int t = lane % 4 * 2;
    for (int m = 0; m < 4; ++m) {
      const uint16_t low = kTrans ? element(m, t, g) : element(m, g, t);
      const uint16_t high =
          kTrans ? element(m, t + 1, g) : element(m, g, t + 1);
      static_cast<LdMatrixOperand*>(operands[lane])->r[m] =
          uint32_t{low} | uint32_t{high} << 16;
    }
  }
}

inline void LdMatrixX4(uint32_t r[4], const void* row) {
  emulation::CheckShared16(row, "LdMatrixX4");
  LdMatrixOperand operand{r, row};
  emulation::WarpCollective("LdMatrixX4", PerformLdMatrix<false>, &operand);
}
inline void LdMatrixX4Trans(uint32_t r[4], const void* row) {
  emulation::CheckShared16(row, "LdMatrixX4Trans");
  LdMatrixOperand operand{r, row};
  emulation::WarpCollective("LdMatrixX4Trans", PerformLdMatrix<true>, &operand);
}

struct MmaOperand {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

// Products of bf16 are exact; sums in f32, in the order of k.
inline void PerformMma(void* const operands[emulation::kLanes]) {
  float a[16][16];
  float b[16][8];
  const auto half = [](uint32_t pair, int i) {
    return FromBf16(static_cast<bf16_t>(i == 0 ? pair & 0xffffu : pair >> 16));
  };
  for (int lane = 0; lane < emulation::kLanes; ++lane) {
    const auto& operand = *static_cast<const MmaOperand*>(operands[lane]);
    const int g = lane / 4;
    const int t = lane % 4 * 2;
    for (int i = 0; i < 2; ++i) {
      a[g][t + i] = half(operand.a[0], i);
      a[g + 8][t + i] = half(operand.a[1], i);
      a[g][t + 8 + i] = half(operand.a[2], i);
      a[g + 8][t + 8 + i] = half(operand.a[3], i);
      b[t + i][g] = half(operand.b[0], i);
      b[t + 8 + i][g] = half(operand.b[1], i);
    }
  }
  float sums[16][8] = {};
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) sums[m][n] += a[m][k] * b[k][n];
    }
  }
  for (int lane = 0; lane < emulation::kLanes; ++lane) {
    float* d = static_cast<const MmaOperand*>(operands[lane])->d;
    const int g = lane / 4;
    const int t = lane % 4 * 2;
    for (int i = 0; i < 2; ++i) {
      d[i] += sums[g][t + i];
      d[2 + i] += sums[g + 8][t + i];
    }
  }
}

inline void MmaBf16_16x8x16(float d[4], const uint32_t a[4],
                            const uint32_t b[2]) {
  MmaOperand operand{d, a, b};
  emulation::WarpCollective("MmaBf16_16x8x16", PerformMma, &operand);
}

inline void CpAsync16(void* shared, const void* global, int valid_bytes = 16) {
  emulation::StartCopy(shared, global, valid_bytes);
}
inline void CpAsyncCommit() { emulation::CommitCopies(); }
template <int kGroups>
void CpAsyncWait() {
  emulation::WaitForCopies(kGroups);
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_TESTS_TESTING_CUDA_EMULATION_DEVICE_EMULATION_H_
