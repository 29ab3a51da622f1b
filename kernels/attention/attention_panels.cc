// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention_panels.h"

#include <cstring>

#include "kernels/cpu/cpu_isa.h"
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

// Whether this target's kernels have the branches for pairs.
bool MultipliesPairs() { return HWY_TARGET == HWY_AVX3; }

// No NaN and nothing that is infinite in bf16.
bool AllFinite(const float* rows, int64_t row_stride, int64_t keys,
               int64_t head_dim) {
  constexpr float kLargest = 3e38f;
  const F32Tag d;
  F32Vec largest = hn::Zero(d);
  F32Vec zeros = hn::Zero(d);  // NaN once there was one, which Max may drop
  for (int64_t j = 0; j < keys; ++j) {
    ForEachVector(head_dim, [&](int64_t i, auto lanes) HWY_ATTR {
      const F32Vec x = lanes.Load(d, rows + j * row_stride + i);
      largest = hn::Max(largest, hn::Abs(x));
      zeros = hn::MulAdd(x, hn::Zero(d), zeros);
    });
  }
  return hn::GetLane(hn::MaxOfLanes(d, largest)) <= kLargest &&
         Sum(d, zeros) == 0.0f;
}

// Pairs are moved as if they were floats: nothing is computed with them.
void PackTransposedPairs(const float* rows, int64_t row_stride, int64_t keys,
                         int64_t head_dim, int64_t pair_dim, float* panel) {
#if HWY_TARGET == HWY_AVX3
  alignas(64) Bf16Pair line[kTile * kMaxHeadDim / 2];
  const int64_t pairs = head_dim / 2;
  for (int64_t j = 0; j < keys; ++j) {
    AskForRowAhead(rows + j * row_stride, row_stride, head_dim);
    ToBf16Row(rows + j * row_stride, 1.0f,
              reinterpret_cast<bf16_t*>(line + j * pairs), head_dim);
  }
  PackTransposed(reinterpret_cast<const float*>(line), pairs, keys, pairs,
                 panel);
  std::memset(panel + pairs * kTile, 0,
              (pair_dim / 2 - pairs) * kTile * sizeof(Bf16Pair));
#else
  (void)rows, (void)row_stride, (void)keys, (void)head_dim, (void)panel;
  (void)pair_dim;
#endif
}

// Rows 2j and 2j + 1 side by side; zeros beyond `keys`.
void PackRowPairs(const float* rows, int64_t row_stride, int64_t keys,
                  int64_t head_dim, int64_t pair_dim, float* panel) {
#if HWY_TARGET == HWY_AVX3
  auto* pairs = reinterpret_cast<Bf16Pair*>(panel);
  for (int64_t j = 0; j < kTile; j += 2, pairs += pair_dim) {
    const float* row = rows + j * row_stride;
    AskForRowAhead(row, row_stride, head_dim);
    AskForRowAhead(row + row_stride, row_stride, head_dim);
    ToBf16Pairs(j < keys ? row : nullptr,
                j + 1 < keys ? row + row_stride : nullptr, 1.0f, pairs,
                head_dim);
    std::fill(pairs + head_dim, pairs + pair_dim, 0);
  }
#else
  (void)rows, (void)row_stride, (void)keys, (void)head_dim, (void)panel;
  (void)pair_dim;
#endif
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(AllFinite);
HWY_EXPORT(MultipliesPairs);
HWY_EXPORT(PackRowPairs);
HWY_EXPORT(PackTransposedF32);
HWY_EXPORT(PackTransposedPairs);

DType ProductDType(DType allowed) {
  const bool has_pairs = ActiveCpuIsa() >= CpuIsa::kAvx512Bf16 &&
                         HWY_DYNAMIC_DISPATCH(MultipliesPairs)();
  return allowed == DType::kBF16 && has_pairs ? DType::kBF16 : DType::kF32;
}

Panels::Panels(const AttentionPlan& plan, const ConstTensorView& k,
               const ConstTensorView& v, std::initializer_list<PanelKind> kinds,
               DType element, int64_t extra_floats, CpuContext& context)
    : plan_(plan),
      k_(k),
      v_(v),
      context_(context),
      head_dim_(k.shape[2]),
      pairs_(element == DType::kBF16),
      in_tiles_(pairs_ && ActiveCpuIsa() >= CpuIsa::kAmx),
      pair_dim_(in_tiles_ ? PaddedHeadDim(head_dim_) : head_dim_),
      panel_words_(pairs_ ? kTile * pair_dim_ / 2 : kTile * head_dim_) {
  for (PanelKind kind : kinds) slot_[kind] = kinds_++;
  const int64_t head_floats = kinds_ * plan.key_tiles * panel_words_;
  const int64_t fitting =
      kPanelBytes /
      std::max<int64_t>(1, head_floats * static_cast<int64_t>(sizeof(float)));
  const int64_t threads = context.pool.num_threads();
  heads_per_batch_ = std::min<int64_t>(
      std::max<int64_t>(1, fitting / threads) * threads, k.shape[1]);
  memory_ = context.shared_scratch.Reserve<float>(
      heads_per_batch_ * head_floats + extra_floats);
  extra_ = memory_ + heads_per_batch_ * head_floats;
  finite_.resize(heads_per_batch_ * kinds_ * plan.key_tiles);
}

void Panels::PackRows(const ConstTensorView& x, int64_t token, int64_t keys,
                      int64_t kv_head, float* panel) const {
  if (pairs_) {
    HWY_DYNAMIC_DISPATCH(PackRowPairs)
    (At(x, token, kv_head), x.stride[0], keys, head_dim_, pair_dim_, panel);
    return;
  }
  for (int64_t j = 0; j < keys; ++j) {
    std::memcpy(panel + j * head_dim_, At(x, token + j, kv_head),
                head_dim_ * sizeof(float));
  }
}

void Panels::PackTransposed(const ConstTensorView& x, int64_t token,
                            int64_t keys, int64_t kv_head, float* panel) const {
  const float* rows = At(x, token, kv_head);
  if (pairs_) {
    HWY_DYNAMIC_DISPATCH(PackTransposedPairs)
    (rows, x.stride[0], keys, head_dim_, pair_dim_, panel);
  } else {
    HWY_DYNAMIC_DISPATCH(PackTransposedF32)
    (rows, x.stride[0], keys, head_dim_, panel);
  }
}

void Panels::PackTile(int64_t kv_head, const SegmentPlan& segment,
                      int64_t tile) {
  const int64_t token = segment.segment.begin + tile * kTile;
  const int64_t keys = std::min(kTile, segment.segment.length - tile * kTile);
  const int64_t key_tile = segment.first_key_tile + tile;
  const auto pack = [&](PanelKind kind, const ConstTensorView& x,
                        bool transposed) {
    if (slot_[kind] < 0) return;
    float* panel = Get(kind, kv_head, key_tile);
    if (transposed) {
      PackTransposed(x, token, keys, kv_head, panel);
    } else {
      PackRows(x, token, keys, kv_head, panel);
      finite_[PanelIndex(kind, kv_head, key_tile)] = HWY_DYNAMIC_DISPATCH(
          AllFinite)(At(x, token, kv_head), x.stride[0], keys, head_dim_);
    }
  };
  pack(kKeysTransposed, k_, true);
  pack(kValuesTransposed, v_, true);
  pack(kKeyRows, k_, false);
  pack(kValueRows, v_, false);
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
