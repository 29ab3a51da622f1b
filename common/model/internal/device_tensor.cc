// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/device_tensor.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/status.h"

namespace sinklora::internal {

using kernels::DType;

absl::StatusOr<DeviceTensor> DeviceTensor::Create(
    kernels::Backend* backend, DType dtype, std::span<const int64_t> shape) {
  if (shape.size() > kernels::kMaxRank) {
    return absl::InternalError(
        fmt::format("tensor rank is {}, must be at most {}", shape.size(),
                    kernels::kMaxRank));
  }
  DeviceTensor out;
  kernels::TensorView& view = out.view_;
  view.dtype = dtype;
  view.rank = static_cast<int>(shape.size());
  int64_t step = 1;
  for (int i = view.rank - 1; i >= 0; --i) {
    view.shape[i] = shape[i];
    view.stride[i] = step;
    step *= shape[i];
  }
  SL_RETURN_IF_KERNEL_ERROR(
      backend->Allocate(step * kernels::SizeOf(dtype), &out.buffer_));
  view.data = out.buffer_.data();
  return out;
}

absl::Status Upload(kernels::Backend* backend, std::span<const float> values,
                    const kernels::TensorView& to) {
  const int64_t bytes = to.num_elements() * kernels::SizeOf(to.dtype);
  if (to.dtype == DType::kF32) {
    return ToAbsl(backend->CopyToDevice(values.data(), to.data, bytes));
  }
  std::vector<kernels::bf16_t> rounded(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    rounded[i] = kernels::ToBf16(values[i]);
  }
  return ToAbsl(backend->CopyToDevice(rounded.data(), to.data, bytes));
}

absl::Status Upload(kernels::Backend* backend, std::span<const int32_t> values,
                    const kernels::TensorView& to) {
  return ToAbsl(backend->CopyToDevice(
      values.data(), to.data,
      static_cast<int64_t>(values.size() * sizeof(int32_t))));
}

absl::StatusOr<std::vector<float>> Download(
    kernels::Backend* backend, const kernels::ConstTensorView& from) {
  std::vector<float> out(static_cast<size_t>(from.num_elements()));
  SL_RETURN_IF_KERNEL_ERROR(backend->CopyToHost(
      from.data, out.data(), static_cast<int64_t>(out.size() * sizeof(float))));
  return out;
}

absl::Status Zero(kernels::Backend* backend, const kernels::TensorView& view) {
  return ToAbsl(backend->Zero(
      view.data, view.num_elements() * kernels::SizeOf(view.dtype)));
}

absl::StatusOr<DeviceTensor> LoadTensor(kernels::Backend* backend,
                                        const StoredTensor& stored,
                                        DType dtype) {
  SL_ASSIGN_OR_RETURN(DeviceTensor out,
                      DeviceTensor::Create(backend, dtype, stored.shape));
  const bool same = (dtype == DType::kF32 && stored.dtype == FileDType::kF32) ||
                    (dtype == DType::kBF16 && stored.dtype == FileDType::kBF16);
  if (same) {
    SL_RETURN_IF_KERNEL_ERROR(
        backend->CopyToDevice(stored.bytes.data(), out.view().data,
                              static_cast<int64_t>(stored.bytes.size())));
    return out;
  }
  SL_ASSIGN_OR_RETURN(const std::vector<float> values, ToF32(stored));
  SL_RETURN_IF_ERROR(Upload(backend, values, out.view()));
  return out;
}

}  // namespace sinklora::internal
