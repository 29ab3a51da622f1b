// The rows of a matrix that an op is to look at, a list in device memory, and
// what kernels check in it: a block that is given the place of a row in the
// list leaves a bad one out and notes it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_ROW_LIST_H_
#define SINKLORA_KERNELS_CUDA_ROW_LIST_H_

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/device_faults.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"
#include "kernels/tensor.h"

namespace sinklora::kernels::cuda {

// Columns of a row that a block takes.
inline constexpr int64_t kRowColumns = 4 * kBlockThreads;

// Elements of the matrix.
struct RowPart {
  int64_t begin = 0, end = 0;
};

struct RowList {
  const int32_t* data;
  int64_t stride, count;
  int64_t rows, columns;  // of the matrix

  SINKLORA_DEVICE int32_t operator[](int64_t i) const {
    return data[i * stride];
  }
  // Whether row i of the list is one of the matrix and behind the one before.
  SINKLORA_DEVICE bool Good(int64_t i) const {
    const int32_t row = (*this)[i];
    return row >= 0 && row < rows && (i == 0 || row > (*this)[i - 1]);
  }
  // Notes what is bad about row i, by one thread.
  SINKLORA_DEVICE void Note(int64_t i, DeviceFaults* faults, ValueCheck range,
                            ValueCheck order) const {
    const int32_t row = (*this)[i];
    if (!InRange(row, 0, rows, faults, range, i) || Good(i)) return;
    NoteFault(faults, order, i, static_cast<uint32_t>(row), (*this)[i - 1]);
  }

  // What a block of ShapeOf takes: nothing where its row is bad, which it
  // notes.
  SINKLORA_DEVICE RowPart Part(DeviceFaults* faults, ValueCheck range,
                               ValueCheck order) const {
    if (!Good(blockIdx.x)) {
      if (blockIdx.y == 0 && threadIdx.x == 0) {
        Note(blockIdx.x, faults, range, order);
      }
      return {};
    }
    const int64_t row = (*this)[blockIdx.x] * columns;
    const int64_t begin = blockIdx.y * kRowColumns;
    const int64_t end =
        begin + kRowColumns < columns ? begin + kRowColumns : columns;
    return {row + begin, row + end};
  }
};

// A block for each kRowColumns of each row.
inline LaunchShape ShapeOf(const RowList& list) {
  return {
      .grid = dim3(static_cast<unsigned>(list.count),
                   static_cast<unsigned>(CeilDiv(list.columns, kRowColumns))),
      .block = dim3(kBlockThreads)};
}

inline RowList RowListOf(const ConstTensorView& list,
                         const ConstTensorView& matrix) {
  return {list.as<int32_t>(), list.stride[0], list.shape[0], matrix.shape[0],
          matrix.shape[1]};
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_ROW_LIST_H_
