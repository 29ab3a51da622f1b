// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention_panels.h"

#include <cstring>

#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_panels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/attention/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

void PackTransposedF32(const float* rows, int64_t row_stride, int64_t keys,
                       int64_t head_dim, float* panel) {
  PackTransposed(rows, row_stride, keys, head_dim, panel);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(PackTransposedF32);

Panels::Panels(const AttentionPlan& plan, const ConstTensorView& k,
               const ConstTensorView& v, std::initializer_list<PanelKind> kinds,
               int64_t extra_floats, CpuContext& context)
    : plan_(plan), k_(k), v_(v), context_(context), head_dim_(k.shape[2]) {
  for (PanelKind kind : kinds) slot_[kind] = kinds_++;
  const int64_t head_floats = kinds_ * plan.key_tiles * kTile * head_dim_;
  const int64_t fitting =
      kPanelBytes /
      std::max<int64_t>(1, head_floats * static_cast<int64_t>(sizeof(float)));
  heads_per_batch_ = std::clamp<int64_t>(fitting, 1, k.shape[1]);
  memory_ = context.shared_scratch.Reserve<float>(
      heads_per_batch_ * head_floats + extra_floats);
  extra_ = memory_ + heads_per_batch_ * head_floats;
}

void Panels::PackTile(int64_t kv_head, const SegmentPlan& segment,
                      int64_t tile) {
  const int64_t token = segment.segment.begin + tile * kTile;
  const int64_t keys = std::min(kTile, segment.segment.length - tile * kTile);
  const int64_t key_tile = segment.first_key_tile + tile;
  const auto rows = [&](const ConstTensorView& x, PanelKind kind) {
    float* panel = Get(kind, kv_head, key_tile);
    for (int64_t j = 0; j < keys; ++j) {
      std::memcpy(panel + j * head_dim_, At(x, token + j, kv_head),
                  head_dim_ * sizeof(float));
    }
  };
  const auto transposed = [&](const ConstTensorView& x, PanelKind kind) {
    HWY_DYNAMIC_DISPATCH(PackTransposedF32)
    (At(x, token, kv_head), x.stride[0], keys, head_dim_,
     Get(kind, kv_head, key_tile));
  };
  if (slot_[kKeysTransposed] >= 0) transposed(k_, kKeysTransposed);
  if (slot_[kValuesTransposed] >= 0) transposed(v_, kValuesTransposed);
  if (slot_[kKeyRows] >= 0) rows(k_, kKeyRows);
  if (slot_[kValueRows] >= 0) rows(v_, kValueRows);
}

void Panels::Pack(int64_t first_head, int64_t heads) {
  first_head_ = first_head;
  struct Place {
    const SegmentPlan* segment;
    int64_t tile;
  };
  std::vector<Place> places;
  for (const SegmentPlan& segment : plan_.segments) {
    for (int64_t t = 0; t < segment.key_tiles; ++t) {
      places.push_back({&segment, t});
    }
  }
  const int64_t tiles = static_cast<int64_t>(places.size());
  const int64_t block = RowsPerTask(kinds_ * kTile * head_dim_);
  ParallelBlocks(context_.pool, heads * tiles, block,
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t i = begin; i < end; ++i) {
                     const Place& place = places[i % tiles];
                     PackTile(first_head + i / tiles, *place.segment,
                              place.tile);
                   }
                 });
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
