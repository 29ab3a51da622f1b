// SPDX-License-Identifier: Apache-2.0
#include "common/base/status.h"
#include "common/model/inference_model.h"
#include "common/model/internal/served_model_impl.h"

namespace sinklora {

absl::StatusOr<std::shared_ptr<BaseWeights>> BaseWeights::Load(
    kernels::Backend* backend, const ModelFiles& files,
    kernels::DType matrix_dtype) {
  auto out = std::make_shared<internal::BaseWeightsImpl>();
  out->backend_ = backend;
  out->matrix_dtype_ = matrix_dtype;
  out->config_ = files.config();
  for (const auto& [name, shape] : LlamaTensors(files.config())) {
    SL_ASSIGN_OR_RETURN(const StoredTensor stored, files.tensor(name));
    SL_ASSIGN_OR_RETURN(
        internal::DeviceTensor tensor,
        internal::LoadTensor(
            backend, stored,
            internal::IsVector(name) ? kernels::DType::kF32 : matrix_dtype));
    out->bytes_ += tensor.size_bytes();
    out->tensors_[name] = std::move(tensor);
  }
  return out;
}

}  // namespace sinklora
