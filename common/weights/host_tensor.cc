// SPDX-License-Identifier: Apache-2.0
#include "common/weights/host_tensor.h"

#include <utility>

namespace sinklora {

HostTensor HostTensor::FromF32(std::vector<int64_t> shape,
                               std::span<const float> values) {
  HostTensor out{FileDType::kF32, std::move(shape), {}};
  out.bytes.assign(reinterpret_cast<const char*>(values.data()),
                   values.size_bytes());
  return out;
}

HostTensor HostTensor::Copy(const StoredTensor& stored) {
  return {stored.dtype, stored.shape, std::string(stored.bytes)};
}

}  // namespace sinklora
