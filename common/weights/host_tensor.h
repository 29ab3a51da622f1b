// A small dense matrix or vector on the host, in the type and with the bytes of
// the file it came from, so that writing it again gives those bytes.
//
// Plain value: thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_HOST_TENSOR_H_
#define SINKLORA_COMMON_WEIGHTS_HOST_TENSOR_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/weights/safetensors.h"

namespace sinklora {

struct HostTensor {
  FileDType dtype = FileDType::kF32;
  std::vector<int64_t> shape;
  std::string bytes;  // little-endian, row-major

  static HostTensor FromF32(std::vector<int64_t> shape,
                            std::span<const float> values);
  static HostTensor Copy(const StoredTensor& stored);

  // Valid as long as this tensor.
  StoredTensor view() const { return {dtype, shape, bytes}; }
  // All values as f32; kInvalidArgument when dtype is not a float type.
  absl::StatusOr<std::vector<float>> ToFloats() const { return ToF32(view()); }

  bool operator==(const HostTensor&) const = default;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_HOST_TENSOR_H_
