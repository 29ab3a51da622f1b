// SPDX-License-Identifier: Apache-2.0
#include "common/base/status.h"
#include "common/model/inference_model.h"
#include "common/model/internal/served_model_impl.h"

namespace sinklora {

using kernels::DType;
using kernels::QuantizedFormat;

absl::StatusOr<std::shared_ptr<BaseWeights>> BaseWeights::Load(
    kernels::Backend* backend, const ModelFiles& files,
    WeightType weight_type) {
  auto out = std::make_shared<internal::BaseWeightsImpl>();
  out->backend_ = backend;
  out->weight_type_ = weight_type;
  out->config_ = files.config();
  for (const auto& [name, shape] : LlamaTensors(files.config())) {
    SL_ASSIGN_OR_RETURN(const StoredTensor stored, files.tensor(name));
    SL_RETURN_IF_ERROR(out->Add(name, stored));
  }
  return out;
}

namespace internal {

absl::Status BaseWeightsImpl::Add(const std::string& name,
                                  const StoredTensor& stored) {
  const bool dense = weight_type_ == WeightType::kFloat32 ||
                     weight_type_ == WeightType::kBfloat16;
  if (dense || IsVector(name)) {
    SL_ASSIGN_OR_RETURN(
        DeviceTensor tensor,
        LoadTensor(backend_, stored,
                   IsVector(name) ? DType::kF32 : dense_dtype()));
    bytes_ += tensor.size_bytes();
    dense_[name] = std::move(tensor);
    return absl::OkStatus();
  }
  // What is looked up and what decides the next token deserve the bits, and
  // are a small part of a model.
  const bool edge = name == kEmbeddingTensor || name == kHeadTensor;
  const auto format = weight_type_ == WeightType::kInt8 || edge
                          ? QuantizedFormat::kInt8
                          : QuantizedFormat::kInt4;
  absl::StatusOr<QuantizedTensor> tensor =
      QuantizedTensor::Load(backend_, stored, format);
  if (!tensor.ok()) return Annotate(tensor.status(), name);
  bytes_ += tensor->size_bytes();
  quantized_[name] = *std::move(tensor);
  return absl::OkStatus();
}

MatrixView BaseWeightsImpl::tensor(const std::string& name) const {
  const auto packed = quantized_.find(name);
  if (packed != quantized_.end()) return packed->second.view();
  return kernels::ConstTensorView(dense_.at(name).view());
}

}  // namespace internal
}  // namespace sinklora
