// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/arena.h"

#include "common/base/status.h"

namespace sinklora::internal {

absl::Status Arena::Reserve(kernels::Backend* backend, int64_t bytes) {
  used_bytes_ = 0;
  if (buffer_.data() != nullptr && bytes <= buffer_.size_bytes()) {
    return absl::OkStatus();
  }
  buffer_ = kernels::Buffer();  // first, so that old and new never coexist
  return ToAbsl(backend->Allocate(bytes, &buffer_));
}

void Arena::Release() {
  buffer_ = kernels::Buffer();
  used_bytes_ = 0;
}

kernels::TensorView Arena::Take(kernels::DType dtype,
                                std::initializer_list<int64_t> shape) {
  constexpr int64_t kAlignmentBytes = 64;
  kernels::TensorView view(nullptr, dtype, shape);
  const int64_t bytes = view.num_elements() * kernels::SizeOf(dtype);
  const int64_t begin = used_bytes_;
  used_bytes_ +=
      (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  if (used_bytes_ <= buffer_.size_bytes()) {
    view.data = static_cast<char*>(buffer_.data()) + begin;
  }
  return view;
}

}  // namespace sinklora::internal
