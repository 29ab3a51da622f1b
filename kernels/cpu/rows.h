// Rows of tensors as raw pointers, and task sizes, for the CPU kernels.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_ROWS_H_
#define SINKLORA_KERNELS_CPU_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

// Elements a task of a memory-bound op should touch: some ten times the cost of
// waking a thread.
inline constexpr int64_t kTaskElements = int64_t{1} << 16;

// Rows per task so that a task touches about kTaskElements.
inline int64_t RowsPerTask(int64_t row_elements) {
  return std::max<int64_t>(1,
                           kTaskElements / std::max<int64_t>(1, row_elements));
}

// First element of index (i, j).
inline float* At(const TensorView& x, int64_t i, int64_t j = 0) {
  return x.as<float>() + i * x.stride[0] + (x.rank > 2 ? j * x.stride[1] : j);
}
inline const float* At(const ConstTensorView& x, int64_t i, int64_t j = 0) {
  return x.as<float>() + i * x.stride[0] + (x.rank > 2 ? j * x.stride[1] : j);
}

// Rows of a head lie a token apart, often in pages of their own, so that no
// processor fetches them ahead by itself.
inline constexpr int64_t kRowsAhead = 12;

// While row `row` is used, asks for the one kRowsAhead after it, which need not
// exist. n elements, rows `stride` apart.
inline void AskForRowAhead(const float* row, int64_t stride, int64_t n) {
  const float* ahead = row + kRowsAhead * stride;
  for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(ahead + i, 0, 2);
}

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_ROWS_H_
