// Keys and values of a few kv heads, repacked for the tiled kernels: O(tokens)
// extra memory, bounded by taking the kv heads in batches.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_PANELS_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_PANELS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/attention/attention_plan.h"
#include "kernels/cpu/cpu_context.h"
#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

// What packed copies a pass needs; each is kTile * head_dim floats a key tile.
enum PanelKind : int {
  kKeysTransposed,    // [head_dim][kTile]
  kValuesTransposed,  // [head_dim][kTile]
  kKeyRows,           // [kTile][head_dim]
  kValueRows,         // [kTile][head_dim]
  kPanelKinds,
};

// Scratch for the packed kv heads of one batch; at least one head is taken
// whatever it costs.
inline constexpr int64_t kPanelBytes = int64_t{256} << 20;

class Panels {
 public:
  // `kinds` lists the copies wanted. Memory is the context's shared scratch,
  // with `extra_floats` more at extra().
  Panels(const AttentionPlan& plan, const ConstTensorView& k,
         const ConstTensorView& v, std::initializer_list<PanelKind> kinds,
         int64_t extra_floats, CpuContext& context);

  int64_t heads_per_batch() const { return heads_per_batch_; }
  float* extra() const { return extra_; }

  // Packs kv heads [first_head, first_head + heads).
  void Pack(int64_t first_head, int64_t heads);

  // Panel of a key tile of the whole plan. REQUIRES: `kv_head` is packed and
  // `kind` was asked for.
  float* Get(PanelKind kind, int64_t kv_head, int64_t key_tile) const {
    return memory_ +
           (((kv_head - first_head_) * kinds_ + slot_[kind]) * plan_.key_tiles +
            key_tile) *
               kTile * head_dim_;
  }

 private:
  void PackTile(int64_t kv_head, const SegmentPlan& segment,
                int64_t tile_of_segment);

  const AttentionPlan& plan_;
  const ConstTensorView& k_;
  const ConstTensorView& v_;
  CpuContext& context_;
  const int64_t head_dim_;
  int64_t kinds_ = 0;
  int64_t slot_[kPanelKinds] = {-1, -1, -1, -1};
  int64_t heads_per_batch_ = 1;
  int64_t first_head_ = 0;
  float* memory_ = nullptr;
  float* extra_ = nullptr;
};

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_PANELS_H_
