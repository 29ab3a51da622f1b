// Keys and values of a few kv heads, repacked for the tiled kernels: O(tokens)
// extra memory, bounded by taking the kv heads in batches.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_ATTENTION_ATTENTION_PANELS_H_
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_PANELS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/attention/attention_plan.h"
#include "kernels/cpu/bf16_gemm.h"
#include "kernels/cpu/cpu_context.h"
#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

// What packed copies a pass needs; each is kTile * head_dim floats a key tile,
// or half as many bf16 pairs along its first dimension (bf16_gemm.h), with
// pair_dim() in place of head_dim.
enum PanelKind : int {
  kKeysTransposed,    // [head_dim][kTile]
  kValuesTransposed,  // [head_dim][kTile]
  kKeyRows,           // [kTile][head_dim]
  kValueRows,         // [kTile][head_dim]
  kPanelKinds,
};

// Scratch for the packed kv heads of one batch: as many as fit, in multiples of
// the threads, and at least one a thread whatever it costs.
inline constexpr int64_t kPanelBytes = int64_t{48} << 20;

// What the products asked for are made of here: kBF16 only where the processor
// multiplies pairs.
DType ProductDType(DType allowed);

class Panels {
 public:
  // `kinds` lists the copies wanted, `element` is kF32 or kBF16 for pairs.
  // Memory is the context's shared scratch, with `extra_floats` more at
  // extra().
  Panels(const AttentionPlan& plan, const ConstTensorView& k,
         const ConstTensorView& v, std::initializer_list<PanelKind> kinds,
         DType element, int64_t extra_floats, CpuContext& context);

  bool pairs() const { return pairs_; }
  // Whether pairs are multiplied in AMX tiles.
  bool in_tiles() const { return in_tiles_; }
  // head_dim, with zeros up to whole tiles where there are tiles.
  int64_t pair_dim() const { return pair_dim_; }

  int64_t heads_per_batch() const { return heads_per_batch_; }
  float* extra() const { return extra_; }

  // Packs kv heads [first_head, first_head + heads).
  void Pack(int64_t first_head, int64_t heads);

  // Panel of a key tile of the whole plan. REQUIRES: `kv_head` is packed,
  // `kind` was asked for, and the element is kF32 or kBF16 as the name says.
  float* Get(PanelKind kind, int64_t kv_head, int64_t key_tile) const {
    return memory_ + PanelIndex(kind, kv_head, key_tile) * panel_words_;
  }
  // Whether every number of a packed kKeyRows or kValueRows panel times zero is
  // zero, in bf16 too.
  bool Finite(PanelKind kind, int64_t kv_head, int64_t key_tile) const {
    return finite_[PanelIndex(kind, kv_head, key_tile)] != 0;
  }
  Bf16Pair* GetPairs(PanelKind kind, int64_t kv_head, int64_t key_tile) const {
    return reinterpret_cast<Bf16Pair*>(Get(kind, kv_head, key_tile));
  }

 private:
  int64_t PanelIndex(PanelKind kind, int64_t kv_head, int64_t key_tile) const {
    return ((kv_head - first_head_) * kinds_ + slot_[kind]) * plan_.key_tiles +
           key_tile;
  }
  void PackTile(int64_t kv_head, const SegmentPlan& segment,
                int64_t tile_of_segment);
  void PackRows(const ConstTensorView& x, int64_t token, int64_t keys,
                int64_t kv_head, float* panel) const;
  void PackTransposed(const ConstTensorView& x, int64_t token, int64_t keys,
                      int64_t kv_head, float* panel) const;

  const AttentionPlan& plan_;
  const ConstTensorView& k_;
  const ConstTensorView& v_;
  CpuContext& context_;
  const int64_t head_dim_;
  const bool pairs_;
  const bool in_tiles_;
  const int64_t pair_dim_;
  const int64_t panel_words_;  // of 4 bytes
  int64_t kinds_ = 0;
  int64_t slot_[kPanelKinds] = {-1, -1, -1, -1};
  int64_t heads_per_batch_ = 1;
  int64_t first_head_ = 0;
  float* memory_ = nullptr;
  float* extra_ = nullptr;
  std::vector<uint8_t> finite_;  // by PanelIndex
};

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_PANELS_H_
