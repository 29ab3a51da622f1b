// Values that a contract bounds and only the device can read: ids, positions,
// slots. A kernel leaves out what a bad one would touch and notes it here; the
// backend reports it at the next call that waits for the device.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_DEVICE_FAULTS_H_
#define SINKLORA_KERNELS_CUDA_DEVICE_FAULTS_H_

#include <cstdint>

#include "kernels/status.h"

namespace sinklora::kernels::cuda {

enum class ValueCheck : int {
  kEmbeddingForwardIds,
  kEmbeddingBackwardIds,
  kRopePositions,
  kDequantizeRowsIds,
  kCrossEntropyLabels,
  kQuantizeWeight,
  kCacheWritePosition,
  kCacheWriteSlots,
  kCacheAttentionPosition,  // no visible slot; `limit` is the kv head
  kCacheDecodeSlots,
  kCacheCompactKeep,
  kCacheCompactOrder,
  kAdamWRows,
  kAdamWRowOrder,
  kSumSquaresRows,
  kSumSquaresRowOrder,
  kZeroRows,
  kZeroRowOrder,
};
inline constexpr int kValueChecks = 18;

struct DeviceFault {
  static constexpr unsigned long long kNone = ~0ull;

  // Of the first bad element: index << 32 | its 32 bits. kNone: all are good.
  unsigned long long first = kNone;
  int64_t limit = 0;
  int64_t columns = 0;  // of a matrix, whose index counts row by row; else 0
};

// In device memory.
struct DeviceFaults {
  DeviceFault of[kValueChecks];
};

// kInvalidArgument for the first check that found something, else OK.
Status ToStatus(const DeviceFaults& faults);

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_DEVICE_FAULTS_H_
