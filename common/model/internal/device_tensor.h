// A device allocation with dtype and shape, and the copies between it and the
// host.
//
// Move-only; must not outlive its Backend. Thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_DEVICE_TENSOR_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_DEVICE_TENSOR_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/weights/safetensors.h"
#include "kernels/backend.h"

namespace sinklora::internal {

class DeviceTensor {
 public:
  DeviceTensor() = default;
  // Not initialised. REQUIRES: at most kMaxRank dimensions.
  static absl::StatusOr<DeviceTensor> Create(kernels::Backend* backend,
                                             kernels::DType dtype,
                                             std::span<const int64_t> shape);
  static absl::StatusOr<DeviceTensor> Create(
      kernels::Backend* backend, kernels::DType dtype,
      std::initializer_list<int64_t> shape) {
    return Create(backend, dtype, std::span(shape.begin(), shape.size()));
  }

  bool empty() const { return buffer_.data() == nullptr; }
  int64_t size_bytes() const { return buffer_.size_bytes(); }
  // Of the whole tensor; an empty view when empty().
  const kernels::TensorView& view() const { return view_; }

 private:
  kernels::Buffer buffer_;
  kernels::TensorView view_;
};

// Contiguous f32 or bf16 tensor <- f32 values. REQUIRES: sizes match.
absl::Status Upload(kernels::Backend* backend, std::span<const float> values,
                    const kernels::TensorView& to);
absl::Status Upload(kernels::Backend* backend, std::span<const int32_t> values,
                    const kernels::TensorView& to);
// Contiguous f32 tensor -> host.
absl::StatusOr<std::vector<float>> Download(
    kernels::Backend* backend, const kernels::ConstTensorView& from);
absl::Status Zero(kernels::Backend* backend, const kernels::TensorView& view);

// A tensor of a model file on the device as `dtype` (f32 or bf16). Bytes that
// need no conversion are copied straight.
absl::StatusOr<DeviceTensor> LoadTensor(kernels::Backend* backend,
                                        const StoredTensor& stored,
                                        kernels::DType dtype);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_DEVICE_TENSOR_H_
