// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/quantized_tensor.h"

#include "common/base/status.h"
#include "common/model/internal/device_tensor.h"

namespace sinklora::internal {

using kernels::DType;

absl::StatusOr<QuantizedTensor> QuantizedTensor::Load(
    kernels::Backend* backend, const StoredTensor& stored,
    kernels::QuantizedFormat format) {
  const int64_t rows = stored.shape[0], columns = stored.shape[1];
  QuantizedTensor out;
  SL_RETURN_IF_KERNEL_ERROR(backend->Allocate(
      kernels::QuantizedBytes(format, rows, columns), &out.buffer_));
  out.view_ = {out.buffer_.data(), format, rows, columns};
  const bool bf16 = stored.dtype == FileDType::kBF16;
  SL_ASSIGN_OR_RETURN(
      const DeviceTensor dense,
      LoadTensor(backend, stored, bf16 ? DType::kBF16 : DType::kF32));
  SL_RETURN_IF_KERNEL_ERROR(backend->Quantize(
      {.weight = dense.view(), .format = format, .out = out.buffer_.data()}));
  return out;
}

}  // namespace sinklora::internal
