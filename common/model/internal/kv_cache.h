// The key/value cache of one sequence: slots per layer and kv head, H2O scores,
// and eviction.
//
// Life: Reserve() -> per chunk of the prompt {NextChunk(), per layer Write()
// and, for H2O, AddScores()} -> EndPrefill(), which evicts down to the budget
// and moves what is left into buffers of that size -> per decoded token
// {BeginStep(), per layer Decoded() for the batch's CacheDecode, EndStep()}. A
// decoded token takes the slot that the last eviction freed, so nothing moves
// while decoding.
//
// Not thread-safe. Must not outlive its backend.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_KV_CACHE_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_KV_CACHE_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/model/inference_model.h"
#include "common/model/internal/device_tensor.h"
#include "common/model/internal/eviction.h"
#include "common/model/options.h"
#include "common/weights/llama_config.h"
#include "kernels/backend.h"

namespace sinklora::internal {

class KvCache {
 public:
  // Keeps at most `cache.budget_tokens` (kFull: all) of at most `max_tokens`
  // tokens.
  KvCache(kernels::Backend* backend, const LlamaConfig& config,
          const ResolvedCache& cache, int64_t max_tokens);

  // Slots a layer needs after prefill: one more than the budget, for the token
  // that is attended before eviction.
  int64_t steady_slots() const { return steady_slots_; }
  // Slots a layer needs while a prompt of so many tokens is read.
  int64_t PromptSlots(int64_t prompt_tokens) const {
    return std::max(prompt_tokens, steady_slots_);
  }
  // Device memory of `slots` slots in every layer and of the table of a chunk
  // of `tokens` tokens; a decoded token has none.
  int64_t PlannedBytes(int64_t slots, int64_t tokens) const;
  bool has_scores() const { return policy_ == CachePolicyKind::kH2o; }

  // Allocates `slots` slots in every layer, empty. REQUIRES: nothing was
  // written yet.
  absl::Status Reserve(int64_t slots);

  // Announces `tokens` new tokens at positions [position, position + tokens).
  absl::Status NextChunk(int64_t position, int64_t tokens);
  // [tokens] i32 on the device: the announced positions.
  const kernels::TensorView& chunk_positions() const { return chunk_view_; }
  // Stores the chunk's k and v [tokens, kv_heads, head_dim] f32 in `layer`.
  absl::Status Write(int64_t layer, const kernels::ConstTensorView& k,
                     const kernels::ConstTensorView& v);
  kernels::CacheView view(int64_t layer) const;

  // H2O: adds the softmax column sums of the chunk's queries and checks that
  // they grew by exactly queries x group. kInternal with reason SCORE_INVARIANT
  // when not, or when a score is not finite. `product_dtype`: that of the
  // attention.
  absl::Status AddScores(int64_t layer, const kernels::ConstTensorView& q,
                         const kernels::ConstTensorView& lse, float scale,
                         kernels::DType product_dtype);

  // Values a step has of this sequence: one a layer and kv head.
  int64_t step_values() const {
    return static_cast<int64_t>(layers_.size()) * kv_heads_;
  }
  kernels::DType storage() const { return dtype_; }
  // Announces one decoded token and gives the slots it takes,
  // [layers, kv_heads].
  void BeginStep(int64_t position, std::span<int32_t> slots);
  // What decoding takes and gives in one layer, in the backend's memory.
  struct DecodeRow {
    kernels::ConstTensorView q, k, v;  // [heads or kv_heads, head_dim] f32
    kernels::TensorView out;           // [heads, head_dim] f32
    // [layers, kv_heads]: slots is what BeginStep gave; EndStep takes the rest.
    kernels::TensorView slots, growth, victims;
  };
  // The announced token in `layer`, to be attended: adds to the scores and,
  // when the layer is over budget, evicts one token per kv head.
  kernels::DecodedToken Decoded(int64_t layer, const DecodeRow& row) const;
  // Whether EndStep looks at growth or victims.
  bool FindsSomething() const;
  // After the last layer: learns what was evicted and checks the scores as
  // AddScores does. growth, victims: [layers, kv_heads].
  absl::Status EndStep(std::span<const float> growth,
                       std::span<const int32_t> victims);
  // Evicts every layer down to the budget, then shrinks the buffers to
  // steady_slots().
  absl::Status EndPrefill();

  CacheUsage usage() const;
  // See Sequence::retained_attention_ratio.
  absl::StatusOr<double> RetainedAttentionRatio() const;
  std::vector<int32_t> KeptPositions(int64_t layer, int64_t kv_head) const;
  // H2O scores of the kept positions, in the order of KeptPositions. For tests
  // and diagnosis.
  absl::StatusOr<std::vector<float>> KeptScores(int64_t layer,
                                                int64_t kv_head) const;

 private:
  struct Layer {
    DeviceTensor k, v, positions, scores;
    DeviceTensor k_scale, v_scale;  // with int8 storage
    // Host mirrors of positions and, while the prompt is read, of scores,
    // [kv_heads * slots].
    std::vector<int32_t> host_positions;
    std::vector<float> host_scores;
    EvictionRule rule;
    int64_t used = 0;  // slots [0, used) were written
    std::vector<int32_t>
        free_slots;  // one a kv head after an eviction, else empty
    std::vector<int32_t>
        chunk_slots;  // of the chunk being written, [kv_heads, tokens]
  };

  absl::Status Allocate(Layer* layer, int64_t slots);
  // In this step.
  bool Evicts(const Layer& layer) const { return layer.used > budget_; }
  absl::Status TakeVictims(std::span<const int32_t> victims);
  absl::Status CheckGrowth(std::span<const float> growth) const;
  absl::Status UploadMirrors(const Layer& layer);
  void AssignSlots(Layer* layer) const;
  absl::Status Compact(Layer* layer);
  absl::Status Resize(Layer* layer, int64_t slots);
  CacheHead Head(const Layer& layer, int64_t kv_head) const;
  // What holds keys and values: of every slot of every kv head, as many bytes.
  struct Part {
    DeviceTensor* tensor;
    int64_t slot_bytes;
  };
  std::vector<Part> Parts(Layer* layer) const;

  kernels::Backend* const backend_;
  const int64_t num_heads_;
  const int64_t kv_heads_;
  const int64_t head_dim_;
  const kernels::DType dtype_;
  const CachePolicyKind policy_;
  const int64_t budget_;  // never more than max_tokens
  const int64_t steady_slots_;
  int64_t slots_ = 0;  // of every layer
  std::vector<Layer> layers_;

  DeviceTensor chunk_;  // positions of the chunk, then its slots
  kernels::TensorView chunk_view_;
  int64_t chunk_position_ = 0;
  int64_t chunk_tokens_ = 0;

  int64_t seen_tokens_ = 0;
  int64_t bytes_ = 0;
  int64_t peak_bytes_ = 0;
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_KV_CACHE_H_
