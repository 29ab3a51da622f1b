// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/adapter_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "common/base/status.h"

namespace sinklora::internal {
namespace {

using kernels::ConstTensorView;
using kernels::DType;

// Rows of a matrix that are merged at a time to find their lengths.
constexpr int64_t kNormRows = 256;

// magnitude[row] / ||row of W + scale B A||.
absl::StatusOr<std::vector<float>> DoraRowScale(
    kernels::Backend* backend, const MatrixView& weight,
    const ConstTensorView& a, const ConstTensorView& b, double scale,
    const std::vector<float>& magnitude) {
  const int64_t rows = weight.rows(), columns = weight.columns();
  const int64_t step = std::min(rows, kNormRows);
  SL_ASSIGN_OR_RETURN(
      const DeviceTensor merged,
      DeviceTensor::Create(backend, DType::kF32, {step, columns}));
  SL_ASSIGN_OR_RETURN(const DeviceTensor ids,
                      DeviceTensor::Create(backend, DType::kI32, {step}));
  std::vector<int32_t> host_ids;
  std::vector<float> out;
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    const kernels::TensorView block = merged.view().Rows(0, count);
    host_ids.resize(static_cast<size_t>(count));
    std::iota(host_ids.begin(), host_ids.end(), static_cast<int32_t>(row));
    SL_RETURN_IF_ERROR(Upload(backend, host_ids, ids.view()));
    SL_RETURN_IF_ERROR(
        LookUpRows(backend, weight, ids.view().Rows(0, count), block));
    SL_RETURN_IF_KERNEL_ERROR(
        backend->MatMul({.a = b.Rows(row, count),
                         .b = a,
                         .out = block,
                         .alpha = static_cast<float>(scale),
                         .beta = 1.0f}));
    SL_ASSIGN_OR_RETURN(const std::vector<float> values,
                        Download(backend, block));
    for (int64_t i = 0; i < count; ++i) {
      double squares = 0;
      for (int64_t c = 0; c < columns; ++c) {
        const double x = values[i * columns + c];
        squares += x * x;
      }
      out.push_back(
          static_cast<float>(magnitude[row + i] / std::sqrt(squares)));
    }
  }
  return out;
}

absl::Status Incomplete(const std::string& module, const char* part) {
  return absl::InvalidArgumentError(
      fmt::format("adapter: {} has lora_A but no {}", module, part));
}

}  // namespace

absl::StatusOr<AdapterWeights> AdapterWeights::Load(
    kernels::Backend* backend, const PeftAdapter& adapter, DType matrix_dtype,
    std::string_view prefix, const BaseTensorFinder& base) {
  AdapterWeights out;
  SL_RETURN_IF_ERROR(out.LoadFull(backend, adapter, matrix_dtype, prefix));
  SL_ASSIGN_OR_RETURN(const auto scales, LoraScales(adapter));
  for (const auto& [module, scale] : scales) {
    if (!module.starts_with(prefix)) continue;
    SL_RETURN_IF_ERROR(out.LoadLora(backend, adapter, module, scale, base));
  }
  return out;
}

absl::Status AdapterWeights::LoadFull(kernels::Backend* backend,
                                      const PeftAdapter& adapter,
                                      DType matrix_dtype,
                                      std::string_view prefix) {
  const auto embedding = adapter.full.find(std::string(kEmbeddingTensor));
  for (const auto& [name, host] : adapter.full) {
    if (!name.starts_with(prefix)) continue;
    if (name == kHeadTensor && embedding != adapter.full.end() &&
        prefix.empty() && embedding->second == host) {
      head_is_embedding_ = true;
      continue;
    }
    SL_ASSIGN_OR_RETURN(
        full_[name],
        LoadTensor(backend, host.view(),
                   host.shape.size() == 1 ? DType::kF32 : matrix_dtype));
    size_bytes_ += full_[name].size_bytes();
  }
  return absl::OkStatus();
}

absl::Status AdapterWeights::LoadLora(kernels::Backend* backend,
                                      const PeftAdapter& adapter,
                                      const std::string& module, double scale,
                                      const BaseTensorFinder& base) {
  const auto b = adapter.lora_b.find(module);
  if (b == adapter.lora_b.end()) return Incomplete(module, "lora_B");
  Lora& lora = lora_[module];
  lora.scale = static_cast<float>(scale);
  SL_ASSIGN_OR_RETURN(
      lora.a,
      LoadTensor(backend, adapter.lora_a.at(module).view(), DType::kF32));
  SL_ASSIGN_OR_RETURN(lora.b,
                      LoadTensor(backend, b->second.view(), DType::kF32));
  if (adapter.use_dora) {
    const auto magnitude = adapter.lora_magnitude.find(module);
    if (magnitude == adapter.lora_magnitude.end()) {
      return Incomplete(module, "lora_magnitude_vector");
    }
    SL_ASSIGN_OR_RETURN(const std::vector<float> lengths,
                        magnitude->second.ToFloats());
    SL_ASSIGN_OR_RETURN(
        const std::vector<float> row_scale,
        DoraRowScale(backend, base(module + ".weight"), lora.a.view(),
                     lora.b.view(), scale, lengths));
    SL_ASSIGN_OR_RETURN(
        lora.row_scale,
        DeviceTensor::Create(backend, DType::kF32,
                             {static_cast<int64_t>(row_scale.size())}));
    SL_RETURN_IF_ERROR(Upload(backend, row_scale, lora.row_scale.view()));
  }
  size_bytes_ +=
      lora.a.size_bytes() + lora.b.size_bytes() + lora.row_scale.size_bytes();
  return absl::OkStatus();
}

WeightSource AdapterWeights::Bind(BaseTensorFinder base) const {
  WeightSource source;
  source.value =
      [this, base = std::move(base)](const std::string& name) -> MatrixView {
    const auto it = full_.find(name);
    return it != full_.end() ? ConstTensorView(it->second.view()) : base(name);
  };
  source.product = source.value;
  source.gradient = [](const std::string&) { return kernels::TensorView(); };
  source.lora = [this](const std::string& module, LinearWeights* w) {
    const auto it = lora_.find(module);
    if (it == lora_.end()) return;
    w->lora_a = it->second.a.view();
    w->lora_b = it->second.b.view();
    w->lora_scale = it->second.scale;
    w->row_scale = it->second.row_scale.view();
  };
  return source;
}

void AdapterWeights::BindHead(const LlamaConfig& config,
                              const BaseTensorFinder& base,
                              ModelWeights* weights) const {
  const auto head = full_.find(std::string(kHeadTensor));
  if (head_is_embedding_) {
    weights->head = weights->embedding;
  } else if (head != full_.end()) {
    weights->head = ConstTensorView(head->second.view());
  } else if (config.tie_word_embeddings) {
    weights->head = base(std::string(kEmbeddingTensor));
  }
}

}  // namespace sinklora::internal
