// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/layer_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/base/random.h"
#include "common/base/status.h"

namespace sinklora::internal {

using kernels::ConstTensorView;
using kernels::DType;
using kernels::TensorView;

void AddNoise(double noise, uint64_t stream, std::vector<float>* values) {
  constexpr uint64_t kNoiseSeed = 0x6e6f697365;
  const CounterRng rng(kNoiseSeed, stream);
  // 16 random bits a value: a model has billions of them.
  const auto step = static_cast<float>(noise / 32768);
  uint64_t bits = 0;
  for (size_t i = 0; i < values->size(); ++i) {
    bits = i % 4 == 0 ? rng.Bits(i / 4) : bits >> 16;
    const auto draw = static_cast<float>(static_cast<int16_t>(bits & 0xFFFF));
    (*values)[i] *= 1 + step * draw;
  }
}

absl::StatusOr<std::unique_ptr<LayerRunner>> LayerRunner::Create(
    kernels::Backend* backend, const ModelFiles* files,
    const PeftAdapter* adapter, int64_t tokens, double noise) {
  std::unique_ptr<LayerRunner> out(
      new LayerRunner(backend, files, adapter, tokens, noise));
  SL_RETURN_IF_ERROR(out->Init());
  return out;
}

absl::Status LayerRunner::Init() {
  const bool has_factor = adapter_ != nullptr && adapter_->context_tokens > 0;
  const double factor =
      has_factor ? adapter_->rope_factor : config().rope_factor;
  SL_ASSIGN_OR_RETURN(rope_, RopeTable::Create(backend_, config(), factor,
                                               std::span(&tokens_, 1)));
  std::vector<int32_t> positions(static_cast<size_t>(tokens_));
  std::iota(positions.begin(), positions.end(), 0);
  SL_ASSIGN_OR_RETURN(positions_,
                      DeviceTensor::Create(backend_, DType::kI32, {tokens_}));
  return Upload(backend_, positions, positions_.view());
}

absl::Status LayerRunner::Load(std::string_view prefix) {
  tensors_.clear();
  adapter_weights_ = AdapterWeights();
  uint64_t stream = 0;
  for (const auto& [name, shape] : LlamaTensors(config())) {
    ++stream;
    if (!name.starts_with(prefix)) continue;
    SL_ASSIGN_OR_RETURN(const StoredTensor stored, files_->tensor(name));
    SL_ASSIGN_OR_RETURN(tensors_[name],
                        LoadTensor(backend_, stored, DType::kF32));
    if (noise_ == 0) continue;
    SL_ASSIGN_OR_RETURN(std::vector<float> values, ToF32(stored));
    AddNoise(noise_, stream, &values);
    SL_RETURN_IF_ERROR(Upload(backend_, values, tensors_[name].view()));
  }
  if (adapter_ == nullptr) return absl::OkStatus();
  const BaseTensorFinder base = [this](const std::string& name) {
    return ConstTensorView(tensors_[name].view());
  };
  SL_ASSIGN_OR_RETURN(
      adapter_weights_,
      AdapterWeights::Load(backend_, *adapter_, DType::kF32, prefix, base));
  return absl::OkStatus();
}

absl::StatusOr<DeviceTensor> LayerRunner::UploadRows(
    std::span<const float> values, int64_t columns) {
  SL_ASSIGN_OR_RETURN(
      DeviceTensor out,
      DeviceTensor::Create(backend_, DType::kF32, {tokens_, columns}));
  SL_RETURN_IF_ERROR(Upload(backend_, values, out.view()));
  return out;
}

absl::StatusOr<std::vector<float>> LayerRunner::Embed(
    std::span<const int32_t> ids) {
  SL_RETURN_IF_ERROR(Load(kEmbeddingTensor));
  const WeightSource source =
      adapter_weights_.Bind([this](const std::string& name) {
        return ConstTensorView(tensors_[name].view());
      });
  SL_ASSIGN_OR_RETURN(const DeviceTensor device_ids,
                      DeviceTensor::Create(backend_, DType::kI32, {tokens_}));
  SL_RETURN_IF_ERROR(Upload(backend_, ids, device_ids.view()));
  SL_ASSIGN_OR_RETURN(const DeviceTensor out,
                      DeviceTensor::Create(backend_, DType::kF32,
                                           {tokens_, config().hidden_size}));
  SL_RETURN_IF_KERNEL_ERROR(backend_->EmbeddingForward(
      {.ids = device_ids.view(),
       .table = source.value(std::string(kEmbeddingTensor)).dense,
       .out = out.view()}));
  return Download(backend_, out.view());
}

absl::Status LayerRunner::LoadLayer(int64_t layer) {
  SL_RETURN_IF_ERROR(Load(LayerTensor(layer, "")));
  layer_index_ = layer;
  layer_ = BindLayer(config(),
                     adapter_weights_.Bind([this](const std::string& name) {
                       return ConstTensorView(tensors_[name].view());
                     }),
                     layer);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> LayerRunner::RunLayer(
    std::span<const float> input) {
  int64_t rank = 0;
  for (const LinearWeights* w : {&layer_.q, &layer_.k, &layer_.v, &layer_.o,
                                 &layer_.gate, &layer_.up, &layer_.down}) {
    rank = std::max(rank, w->rank());
  }
  const auto take = [&](Arena* arena, LoraScratch* lora) {
    if (rank > 0) lora->down = arena->Take(DType::kF32, {tokens_, rank});
    return LayerActivations::Take(config(), tokens_, arena);
  };
  LoraScratch lora;
  Arena measuring;
  take(&measuring, &lora);
  SL_RETURN_IF_ERROR(arena_.Reserve(backend_, measuring.used_bytes()));
  const LayerActivations activations = take(&arena_, &lora);
  SL_ASSIGN_OR_RETURN(const DeviceTensor x,
                      UploadRows(input, config().hidden_size));
  SL_ASSIGN_OR_RETURN(const DeviceTensor out,
                      DeviceTensor::Create(backend_, DType::kF32,
                                           {tokens_, config().hidden_size}));
  kernels::AttentionPattern pattern;
  pattern.segments = {{0, tokens_, tokens_}};
  pattern.window = config().window(layer_index_);
  const Graph graph{backend_, &config(), &rope_};
  SL_RETURN_IF_ERROR(LayerForward(graph, layer_, pattern, x.view(),
                                  positions_.view(), lora, activations,
                                  out.view()));
  return Download(backend_, out.view());
}

absl::StatusOr<std::vector<float>> LayerRunner::Logits(
    std::span<const float> hidden) {
  // Final norm first: the head is the largest matrix of all.
  SL_RETURN_IF_ERROR(Load(kFinalNormTensor));
  const BaseTensorFinder base = [this](const std::string& name) {
    return ConstTensorView(tensors_[name].view());
  };
  SL_ASSIGN_OR_RETURN(const DeviceTensor x,
                      UploadRows(hidden, config().hidden_size));
  SL_ASSIGN_OR_RETURN(const DeviceTensor normed,
                      DeviceTensor::Create(backend_, DType::kF32,
                                           {tokens_, config().hidden_size}));
  SL_RETURN_IF_KERNEL_ERROR(backend_->RmsNormForward(
      {.x = x.view(),
       .weight = adapter_weights_.Bind(base)
                     .value(std::string(kFinalNormTensor))
                     .dense,
       .eps = static_cast<float>(config().rms_norm_eps),
       .out = normed.view(),
       .inv_rms = TensorView()}));
  // An adapter's own head, else the base's: of a tied base its embedding, which
  // the adapter's does not replace here.
  const bool own_head =
      adapter_ != nullptr && adapter_->full.contains(std::string(kHeadTensor));
  const bool tied = config().tie_word_embeddings && !own_head;
  SL_RETURN_IF_ERROR(Load(tied ? kEmbeddingTensor : kHeadTensor));
  const std::string name(tied ? kEmbeddingTensor : kHeadTensor);
  const MatrixView head =
      tied ? base(name) : adapter_weights_.Bind(base).value(name);
  SL_ASSIGN_OR_RETURN(const DeviceTensor logits,
                      DeviceTensor::Create(backend_, DType::kF32,
                                           {tokens_, config().vocab_size}));
  SL_RETURN_IF_KERNEL_ERROR(backend_->MatMul({.a = normed.view(),
                                              .b = head.dense,
                                              .out = logits.view(),
                                              .transpose_b = true}));
  return Download(backend_, logits.view());
}

}  // namespace sinklora::internal
