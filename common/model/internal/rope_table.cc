// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/rope_table.h"

#include <cmath>
#include <vector>

#include "common/base/status.h"

namespace sinklora::internal {

absl::StatusOr<RopeTable> RopeTable::Create(kernels::Backend* backend,
                                            int64_t rows, int64_t head_dim,
                                            double theta, double factor) {
  const int64_t half = head_dim / 2;
  std::vector<float> cosines(static_cast<size_t>(rows * half));
  std::vector<float> sines(cosines.size());
  for (int64_t i = 0; i < half; ++i) {
    const double frequency = std::pow(
        theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    for (int64_t p = 0; p < rows; ++p) {
      const double angle = static_cast<double>(p) / factor * frequency;
      cosines[p * half + i] = static_cast<float>(std::cos(angle));
      sines[p * half + i] = static_cast<float>(std::sin(angle));
    }
  }
  RopeTable out;
  SL_ASSIGN_OR_RETURN(
      out.cos,
      DeviceTensor::Create(backend, kernels::DType::kF32, {rows, half}));
  SL_ASSIGN_OR_RETURN(
      out.sin,
      DeviceTensor::Create(backend, kernels::DType::kF32, {rows, half}));
  SL_RETURN_IF_ERROR(Upload(backend, cosines, out.cos.view()));
  SL_RETURN_IF_ERROR(Upload(backend, sines, out.sin.view()));
  return out;
}

}  // namespace sinklora::internal
