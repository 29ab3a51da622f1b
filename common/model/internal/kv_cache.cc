// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/kv_cache.h"

#include <algorithm>
#include <numeric>

#include "common/base/status.h"

namespace sinklora::internal {

using kernels::DType;
using kernels::TensorView;

namespace {

DType DTypeOf(CacheStorage storage) {
  switch (storage) {
    case CacheStorage::kFloat32:
      return DType::kF32;
    case CacheStorage::kBfloat16:
      return DType::kBF16;
    case CacheStorage::kInt8:
      return DType::kI8;
  }
  return DType::kF32;
}

}  // namespace

KvCache::KvCache(kernels::Backend* backend, const LlamaConfig& config,
                 const ResolvedCache& cache, int64_t max_tokens)
    : backend_(backend),
      num_heads_(config.num_heads),
      kv_heads_(config.num_kv_heads),
      head_dim_(config.head_dim),
      dtype_(DTypeOf(cache.storage)),
      policy_(cache.policy),
      budget_(cache.policy == CachePolicyKind::kFull
                  ? max_tokens
                  : std::min(cache.budget_tokens, max_tokens)),
      steady_slots_(std::min(budget_ + 1, max_tokens)),
      layers_(static_cast<size_t>(config.num_layers)) {
  for (int64_t i = 0; i < config.num_layers; ++i) {
    layers_[i].rule = {cache.sink_tokens, cache.recent_tokens,
                       config.window(i)};
  }
}

absl::Status KvCache::Reserve(int64_t slots) {
  slots_ = slots;
  for (Layer& layer : layers_) SL_RETURN_IF_ERROR(Allocate(&layer, slots));
  return absl::OkStatus();
}

std::vector<KvCache::Part> KvCache::Parts(Layer* layer) const {
  const int64_t row_bytes = head_dim_ * kernels::SizeOf(dtype_);
  std::vector<Part> out = {{&layer->k, row_bytes}, {&layer->v, row_bytes}};
  if (dtype_ == DType::kI8) {
    out.push_back({&layer->k_scale, kernels::SizeOf(DType::kF32)});
    out.push_back({&layer->v_scale, kernels::SizeOf(DType::kF32)});
  }
  return out;
}

int64_t KvCache::PlannedBytes(int64_t slots, int64_t tokens) const {
  const int64_t scales =
      dtype_ == DType::kI8 ? 2 * kernels::SizeOf(DType::kF32) : 0;
  const int64_t slot_bytes = 2 * head_dim_ * kernels::SizeOf(dtype_) + scales +
                             kernels::SizeOf(DType::kI32) +  // its position
                             (has_scores() ? kernels::SizeOf(DType::kF32) : 0);
  const auto layers = static_cast<int64_t>(layers_.size());
  const int64_t chunk = tokens * (1 + kv_heads_) * kernels::SizeOf(DType::kI32);
  return layers * kv_heads_ * slots * slot_bytes + chunk;
}

absl::Status KvCache::Allocate(Layer* layer, int64_t slots) {
  // Before the new ones, so that the peak is the larger of both and not their
  // sum.
  for (const Part& part : Parts(layer)) {
    bytes_ -= part.tensor->size_bytes();
    *part.tensor = DeviceTensor();
  }
  for (DeviceTensor* t : {&layer->k, &layer->v}) {
    SL_ASSIGN_OR_RETURN(
        *t,
        DeviceTensor::Create(backend_, dtype_, {kv_heads_, slots, head_dim_}));
  }
  if (dtype_ == DType::kI8) {
    for (DeviceTensor* t : {&layer->k_scale, &layer->v_scale}) {
      SL_ASSIGN_OR_RETURN(
          *t, DeviceTensor::Create(backend_, DType::kF32, {kv_heads_, slots}));
    }
  }
  for (const Part& part : Parts(layer)) bytes_ += part.tensor->size_bytes();
  peak_bytes_ = std::max(peak_bytes_, bytes_);
  SL_ASSIGN_OR_RETURN(
      layer->positions,
      DeviceTensor::Create(backend_, DType::kI32, {kv_heads_, slots}));
  layer->host_positions.assign(static_cast<size_t>(kv_heads_ * slots), -1);
  if (has_scores()) {
    SL_ASSIGN_OR_RETURN(
        layer->scores,
        DeviceTensor::Create(backend_, DType::kF32, {kv_heads_, slots}));
    layer->host_scores.assign(static_cast<size_t>(kv_heads_ * slots), 0.0f);
  }
  return UploadMirrors(*layer);
}

absl::Status KvCache::UploadMirrors(const Layer& layer) {
  SL_RETURN_IF_ERROR(
      Upload(backend_, layer.host_positions, layer.positions.view()));
  if (!has_scores()) return absl::OkStatus();
  return Upload(backend_, layer.host_scores, layer.scores.view());
}

absl::Status KvCache::NextChunk(int64_t position, int64_t tokens) {
  const int64_t wanted = tokens * (1 + kv_heads_);
  if (chunk_.size_bytes() < wanted * 4) {
    SL_ASSIGN_OR_RETURN(chunk_,
                        DeviceTensor::Create(backend_, DType::kI32, {wanted}));
  }
  chunk_position_ = position;
  chunk_tokens_ = tokens;
  chunk_view_ = TensorView(chunk_.view().data, DType::kI32, {tokens});
  std::vector<int32_t> positions(static_cast<size_t>(tokens));
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(position));
  SL_RETURN_IF_ERROR(Upload(backend_, positions, chunk_view_));
  seen_tokens_ = position + tokens;
  return absl::OkStatus();
}

// A freed slot first, else the next unused ones. Mirrors the positions.
void KvCache::AssignSlots(Layer* layer) const {
  layer->chunk_slots.resize(static_cast<size_t>(kv_heads_ * chunk_tokens_));
  const bool reuse = !layer->free_slots.empty();
  for (int64_t h = 0; h < kv_heads_; ++h) {
    for (int64_t t = 0; t < chunk_tokens_; ++t) {
      const auto slot =
          reuse ? layer->free_slots[h] : static_cast<int32_t>(layer->used + t);
      layer->chunk_slots[h * chunk_tokens_ + t] = slot;
      layer->host_positions[h * slots_ + slot] =
          static_cast<int32_t>(chunk_position_ + t);
    }
  }
  if (!reuse) layer->used += chunk_tokens_;
  layer->free_slots.clear();
}

void KvCache::BeginStep(int64_t position, std::span<int32_t> slots) {
  chunk_position_ = position;
  chunk_tokens_ = 1;
  seen_tokens_ = position + 1;
  auto to = slots.begin();
  for (Layer& layer : layers_) {
    AssignSlots(&layer);
    to = std::copy(layer.chunk_slots.begin(), layer.chunk_slots.end(), to);
  }
}

absl::Status KvCache::Write(int64_t layer_index,
                            const kernels::ConstTensorView& k,
                            const kernels::ConstTensorView& v) {
  Layer& layer = layers_[layer_index];
  AssignSlots(&layer);
  const TensorView slots(
      static_cast<char*>(chunk_.view().data) + chunk_tokens_ * 4, DType::kI32,
      {kv_heads_, chunk_tokens_});
  SL_RETURN_IF_ERROR(Upload(backend_, layer.chunk_slots, slots));
  return ToAbsl(backend_->CacheWrite({.k = k,
                                      .v = v,
                                      .position = chunk_view_,
                                      .slots = slots,
                                      .cache = view(layer_index)}));
}

kernels::CacheView KvCache::view(int64_t layer_index) const {
  const Layer& layer = layers_[layer_index];
  return {layer.k.view(), layer.v.view(),       layer.positions.view(),
          layer.used,     layer.k_scale.view(), layer.v_scale.view()};
}

CacheHead KvCache::Head(const Layer& layer, int64_t kv_head) const {
  const auto from = static_cast<size_t>(kv_head * slots_);
  const auto count = static_cast<size_t>(layer.used);
  CacheHead out;
  out.positions = std::span(layer.host_positions).subspan(from, count);
  if (has_scores()) {
    out.scores = std::span(layer.host_scores).subspan(from, count);
  }
  return out;
}

CacheUsage KvCache::usage() const {
  CacheUsage out;
  out.resident_tokens = static_cast<int64_t>(KeptPositions(0, 0).size());
  out.resident_bytes = bytes_;
  out.peak_resident_bytes = peak_bytes_;
  out.evicted_tokens = seen_tokens_ - out.resident_tokens;
  return out;
}

std::vector<int32_t> KvCache::KeptPositions(int64_t layer,
                                            int64_t kv_head) const {
  std::vector<int32_t> out;
  for (const int32_t p : Head(layers_[layer], kv_head).positions) {
    if (p >= 0) out.push_back(p);
  }
  std::sort(out.begin(), out.end());
  return out;
}

absl::StatusOr<std::vector<float>> KvCache::KeptScores(int64_t layer,
                                                       int64_t kv_head) const {
  SL_ASSIGN_OR_RETURN(const std::vector<float> scores,
                      Download(backend_, layers_[layer].scores.view()));
  const CacheHead head = Head(layers_[layer], kv_head);
  std::vector<std::pair<int32_t, float>> kept;
  for (size_t j = 0; j < head.positions.size(); ++j) {
    if (head.positions[j] >= 0) {
      kept.emplace_back(head.positions[j], scores[kv_head * slots_ + j]);
    }
  }
  std::sort(kept.begin(), kept.end());
  std::vector<float> out;
  for (const auto& [position, score] : kept) out.push_back(score);
  return out;
}

}  // namespace sinklora::internal
