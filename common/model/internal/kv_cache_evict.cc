// Scores and eviction of KvCache.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/model/internal/kv_cache.h"

namespace sinklora::internal {
namespace {

using kernels::DType;
using kernels::TensorView;

double Sum(std::span<const float> values) {
  double sum = 0;
  for (const float x : values) sum += x;
  return sum;
}

absl::Status InvariantError(int64_t layer, int64_t kv_head, double grown,
                            double wanted) {
  return MakeError(
      absl::StatusCode::kInternal,
      fmt::format("scores of layer {} kv head {} grew by {}, must by {}", layer,
                  kv_head, grown, wanted),
      {"SCORE_INVARIANT",
       {{"layer", fmt::format("{}", layer)},
        {"kv_head", fmt::format("{}", kv_head)}}});
}

void* Element(const TensorView& view, int64_t index) {
  return static_cast<char*>(view.data) + index * 4;
}

}  // namespace

absl::Status KvCache::AddScores(int64_t layer_index,
                                const kernels::ConstTensorView& q,
                                const kernels::ConstTensorView& lse,
                                float scale, kernels::DType product_dtype) {
  Layer& layer = layers_[layer_index];
  std::vector<double> before(static_cast<size_t>(kv_heads_));
  for (int64_t h = 0; h < kv_heads_; ++h) {
    before[h] = Sum(Head(layer, h).scores);
  }
  SL_RETURN_IF_KERNEL_ERROR(
      backend_->CacheColumnSums({.q = q,
                                 .position = chunk_view_,
                                 .lse = lse,
                                 .cache = view(layer_index),
                                 .scale = scale,
                                 .window = layer.rule.window,
                                 .scores = layer.scores.view(),
                                 .product_dtype = product_dtype}));
  SL_ASSIGN_OR_RETURN(layer.host_scores,
                      Download(backend_, layer.scores.view()));
  const double wanted =
      static_cast<double>(chunk_tokens_ * (num_heads_ / kv_heads_));
  for (int64_t h = 0; h < kv_heads_; ++h) {
    const double after = Sum(Head(layer, h).scores);
    const double grown = after - before[h];
    // Negated, so that NaN fails.
    if (!(std::abs(grown - wanted) <= ScoreTolerance(wanted, after))) {
      return InvariantError(layer_index, h, grown, wanted);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<double> KvCache::RetainedAttentionRatio() const {
  if (!has_scores() || seen_tokens_ == 0) return 1;
  double retained = 0;
  for (const Layer& layer : layers_) {
    // Slots that hold nothing have score 0.
    SL_ASSIGN_OR_RETURN(const std::vector<float> scores,
                        Download(backend_, layer.scores.view()));
    retained += Sum(scores);
  }
  // Every query of every head pays 1 in all (the growth of each is checked).
  const auto paid = static_cast<double>(static_cast<int64_t>(layers_.size()) *
                                        num_heads_ * seen_tokens_);
  return std::min(1.0, retained / paid);
}

kernels::DecodedToken KvCache::Decoded(int64_t layer_index,
                                       const DecodeRow& row) const {
  const Layer& layer = layers_[layer_index];
  const auto of_layer = [&](const TensorView& all) {
    return TensorView(Element(all, layer_index * kv_heads_), all.dtype,
                      {kv_heads_});
  };
  kernels::DecodedToken out{.q = row.q,
                            .k = row.k,
                            .v = row.v,
                            .slots = of_layer(row.slots),
                            .position = static_cast<int32_t>(chunk_position_),
                            .cache = view(layer_index),
                            .out = row.out,
                            .sink_tokens = layer.rule.sink_tokens,
                            .recent_tokens = layer.rule.recent_tokens};
  if (has_scores()) {
    out.scores = layer.scores.view();
    out.growth = of_layer(row.growth);
  }
  if (Evicts(layer)) out.victims = of_layer(row.victims);
  return out;
}

bool KvCache::FindsSomething() const {
  return has_scores() ||
         std::any_of(layers_.begin(), layers_.end(),
                     [this](const Layer& layer) { return Evicts(layer); });
}

absl::Status KvCache::EndStep(std::span<const float> growth,
                              std::span<const int32_t> victims) {
  if (has_scores()) SL_RETURN_IF_ERROR(CheckGrowth(growth));
  return TakeVictims(victims);
}

absl::Status KvCache::CheckGrowth(std::span<const float> growth) const {
  const auto group = static_cast<double>(num_heads_ / kv_heads_);
  // No score can hold more than what all queries paid.
  const double tolerance =
      ScoreTolerance(group, group * static_cast<double>(seen_tokens_));
  for (int64_t i = 0; i < static_cast<int64_t>(growth.size()); ++i) {
    // Negated, so that NaN fails.
    if (!(std::abs(growth[i] - group) <= tolerance)) {
      return InvariantError(i / kv_heads_, i % kv_heads_, growth[i], group);
    }
  }
  return absl::OkStatus();
}

absl::Status KvCache::TakeVictims(std::span<const int32_t> victims) {
  for (size_t l = 0; l < layers_.size(); ++l) {
    Layer& layer = layers_[l];
    if (!Evicts(layer)) continue;
    const auto first = victims.begin() + static_cast<int64_t>(l) * kv_heads_;
    layer.free_slots.assign(first, first + kv_heads_);
    for (int64_t h = 0; h < kv_heads_; ++h) {
      if (layer.free_slots[h] < 0) {
        return absl::InternalError(fmt::format(
            "layer {} kv head {}: every one of {} tokens is protected", l, h,
            layer.used));
      }
      layer.host_positions[h * slots_ + layer.free_slots[h]] = -1;
    }
  }
  return absl::OkStatus();
}

absl::Status KvCache::EndPrefill() {
  for (Layer& layer : layers_) {
    if (layer.used > budget_) SL_RETURN_IF_ERROR(Compact(&layer));
  }
  chunk_ = DeviceTensor();  // decoded tokens need none
  if (slots_ == steady_slots_) return absl::OkStatus();
  for (Layer& layer : layers_) {
    SL_RETURN_IF_ERROR(Resize(&layer, steady_slots_));
  }
  slots_ = steady_slots_;
  return absl::OkStatus();
}

// Moves the kept tokens of every kv head to slots [0, budget).
absl::Status KvCache::Compact(Layer* layer) {
  const int64_t latest = chunk_position_ + chunk_tokens_ - 1;
  std::vector<int32_t> keep;
  for (int64_t h = 0; h < kv_heads_; ++h) {
    const std::vector<int32_t> kept =
        ChooseKept(layer->rule, Head(*layer, h), latest, budget_);
    keep.insert(keep.end(), kept.begin(), kept.end());
    // In increasing slot order, so that nothing is overwritten before it moved.
    for (int64_t i = 0; i < slots_; ++i) {
      const bool filled = i < static_cast<int64_t>(kept.size());
      const int64_t from = h * slots_ + (filled ? kept[i] : 0);
      const int64_t to = h * slots_ + i;
      layer->host_positions[to] = filled ? layer->host_positions[from] : -1;
      if (!has_scores()) continue;
      layer->host_scores[to] = filled ? layer->host_scores[from] : 0.0f;
    }
  }
  SL_ASSIGN_OR_RETURN(
      const DeviceTensor keep_tensor,
      DeviceTensor::Create(backend_, DType::kI32, {kv_heads_, budget_}));
  SL_RETURN_IF_ERROR(Upload(backend_, keep, keep_tensor.view()));
  SL_RETURN_IF_KERNEL_ERROR(backend_->CacheCompact(
      {.cache = {layer->k.view(), layer->v.view(), layer->positions.view(),
                 layer->used, layer->k_scale.view(), layer->v_scale.view()},
       .scores = layer->scores.view(),
       .keep = keep_tensor.view()}));
  layer->used = budget_;
  return absl::OkStatus();
}

// Moves slots [0, used) into new buffers. They pass through the host, so that
// the prompt's and the budget's buffers never exist at once.
absl::Status KvCache::Resize(Layer* layer, int64_t slots) {
  std::vector<std::string> staged;
  for (const Part& part : Parts(layer)) {
    const int64_t head_bytes = layer->used * part.slot_bytes;
    std::string& held = staged.emplace_back();
    held.resize(static_cast<size_t>(kv_heads_ * head_bytes));
    for (int64_t h = 0; h < kv_heads_; ++h) {
      SL_RETURN_IF_KERNEL_ERROR(backend_->CopyToHost(
          static_cast<const char*>(part.tensor->view().data) +
              h * slots_ * part.slot_bytes,
          held.data() + h * head_bytes, head_bytes));
    }
  }
  const std::vector<int32_t> positions = std::move(layer->host_positions);
  const std::vector<float> scores = std::move(layer->host_scores);
  SL_RETURN_IF_ERROR(Allocate(layer, slots));
  const std::vector<Part> parts = Parts(layer);
  for (int64_t h = 0; h < kv_heads_; ++h) {
    for (size_t i = 0; i < parts.size(); ++i) {
      const int64_t head_bytes = layer->used * parts[i].slot_bytes;
      SL_RETURN_IF_KERNEL_ERROR(backend_->CopyToDevice(
          staged[i].data() + h * head_bytes,
          static_cast<char*>(parts[i].tensor->view().data) +
              h * slots * parts[i].slot_bytes,
          head_bytes));
    }
    std::copy_n(positions.begin() + h * slots_, layer->used,
                layer->host_positions.begin() + h * slots);
    if (!has_scores()) continue;
    std::copy_n(scores.begin() + h * slots_, layer->used,
                layer->host_scores.begin() + h * slots);
  }
  return UploadMirrors(*layer);
}

}  // namespace sinklora::internal
