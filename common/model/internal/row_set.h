// A set of rows of a matrix, in order, on the host and on the device: those of
// an embedding that tokens have given a gradient.
//
// Move-only; must not outlive its Backend. Thread-compatible. Allocates at
// Create() alone.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_ROW_SET_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_ROW_SET_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/internal/device_tensor.h"
#include "kernels/backend.h"

namespace sinklora::internal {

class RowSet {
 public:
  struct Run {
    int64_t begin, count;
  };

  RowSet() = default;
  // No rows yet, of a matrix of `num_rows`.
  static absl::StatusOr<RowSet> Create(kernels::Backend* backend,
                                       int64_t num_rows);
  static int64_t SizeBytes(int64_t num_rows) {
    return num_rows * static_cast<int64_t>(sizeof(int32_t));
  }

  // Whether it is of no matrix (not: whether it has no rows).
  bool empty() const { return device_.empty(); }
  // REQUIRES: 0 <= row < num_rows. May repeat, in any order.
  absl::Status Add(std::span<const int32_t> rows);
  void Clear();

  // Ascending.
  std::span<const int32_t> rows() const { return rows_; }
  // Rows that follow each other, as one.
  const std::vector<Run>& runs() const { return runs_; }
  // [count] i32 on the device; an empty view when empty().
  kernels::ConstTensorView view() const;

 private:
  kernels::Backend* backend_ = nullptr;
  DeviceTensor device_;             // [num_rows] i32
  std::vector<uint8_t> is_member_;  // [num_rows]
  std::vector<int32_t> rows_;
  std::vector<Run> runs_;
};

// Rows of values[rows][columns] that hold anything but +0, ascending.
std::vector<int32_t> NonzeroRows(std::span<const float> values,
                                 int64_t columns);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_ROW_SET_H_
