// A packed matrix on the device.
//
// Move-only; must not outlive its Backend. Thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_QUANTIZED_TENSOR_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_QUANTIZED_TENSOR_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/weights/safetensors.h"
#include "kernels/backend.h"

namespace sinklora::internal {

class QuantizedTensor {
 public:
  QuantizedTensor() = default;
  // Packs a matrix of a model file. While it does, the device holds that one
  // matrix twice: as it is stored, and packed. REQUIRES: rank 2.
  static absl::StatusOr<QuantizedTensor> Load(kernels::Backend* backend,
                                              const StoredTensor& stored,
                                              kernels::QuantizedFormat format);

  int64_t size_bytes() const { return buffer_.size_bytes(); }
  const kernels::QuantizedMatrix& view() const { return view_; }

 private:
  kernels::Buffer buffer_;
  kernels::QuantizedMatrix view_;
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_QUANTIZED_TENSOR_H_
