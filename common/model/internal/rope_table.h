// cos and sin of every position of a context, with linear position scaling.
//
// Immutable after Create; must not outlive its Backend.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_ROPE_TABLE_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_ROPE_TABLE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/model/internal/device_tensor.h"
#include "kernels/backend.h"

namespace sinklora::internal {

struct RopeTable {
  // Row p holds cos and sin of (p / factor) * theta^(-2i / head_dim), computed
  // in double, stored f32.
  static absl::StatusOr<RopeTable> Create(kernels::Backend* backend,
                                          int64_t rows, int64_t head_dim,
                                          double theta, double factor);
  static int64_t SizeBytes(int64_t rows, int64_t head_dim) {
    return rows * head_dim * static_cast<int64_t>(sizeof(float));
  }

  DeviceTensor cos;  // [rows, head_dim / 2] f32
  DeviceTensor sin;
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_ROPE_TABLE_H_
