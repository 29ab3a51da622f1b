// The implementation of Sequence, visible so that tests can look at the scores.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_SEQUENCE_IMPL_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_SEQUENCE_IMPL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/model/inference_model.h"
#include "common/model/internal/activations.h"
#include "common/model/internal/arena.h"
#include "common/model/internal/kv_cache.h"
#include "common/model/internal/logits_memory.h"
#include "common/model/internal/served_model_impl.h"

namespace sinklora::internal {

class SequenceImpl : public Sequence {
 public:
  SequenceImpl(std::shared_ptr<ServedModelImpl> model,
               std::shared_ptr<const RopeTable> rope,
               const ResolvedCache& cache, int64_t max_tokens,
               int64_t prompt_tokens);

  absl::Status Prefill(std::span<const int32_t> tokens, bool last) override;
  absl::Status Decode(int32_t token) override;
  kernels::ConstTensorView device_logits() const override;
  absl::StatusOr<std::vector<float>> logits() const override;
  int64_t position() const override { return position_; }
  CacheUsage usage() const override { return cache_.usage(); }
  absl::StatusOr<double> RetainedAttentionRatio() const override {
    return cache_.RetainedAttentionRatio();
  }
  std::vector<int32_t> KeptPositions(int64_t layer,
                                     int64_t kv_head) const override {
    return cache_.KeptPositions(layer, kv_head);
  }
  const KvCache& cache() const { return cache_; }
  static SequencePlan Plan(const ServedModelImpl& model,
                           const ResolvedCache& cache, int64_t max_tokens,
                           int64_t prompt_tokens);

  // Whether `token` may be decoded now.
  absl::Status CheckDecode(int32_t token) const;
  // Whether a and b can be rows of one batch: same weights, same rotation.
  static bool CanShareBatch(const SequenceImpl& a, const SequenceImpl& b) {
    return a.model_ == b.model_ && a.rope_ == b.rope_;
  }
  // What steps of decoding leave to the next one.
  struct DecodeMemory {
    Arena arena;
    LogitsMemory logits;
  };
  // Feeds tokens[i] to rows[i], one matrix product for all rows; outcomes[i]
  // says what became of it. A row that fails leaves the others as they are.
  // REQUIRES: all can share a batch, none is twice in it,
  // CheckDecode(tokens[i]) is OK.
  static void DecodeRows(std::span<SequenceImpl* const> rows,
                         std::span<const int32_t> tokens, DecodeMemory* memory,
                         std::span<absl::Status> outcomes);

 private:
  // What one run over a chunk needs besides the cache.
  struct Chunk {
    kernels::TensorView ids;  // [tokens] i32
    kernels::TensorView
        residual[2];  // [tokens, hidden]: in and out of a layer, by turns
    LayerActivations layer;
    LoraScratch lora;
    kernels::TensorView final_input;  // [rows with logits, hidden]

    // Of decoded rows, each of a sequence of its own.
    kernels::TensorView positions;  // [tokens] i32; of a prompt: the cache's
    // [tokens, layers * kv_heads] i32; see KvCache::DecodeRow.
    kernels::TensorView slots;
    // [2 * tokens, layers * kv_heads], 4 bytes each: the growth of each row,
    // then the victims of each.
    kernels::TensorView found;

    static Chunk Take(const ServedModelImpl& model, int64_t tokens,
                      bool decodes, Arena* arena);
    static absl::StatusOr<Chunk> Reserve(const ServedModelImpl& model,
                                         int64_t tokens, bool decodes,
                                         Arena* arena);
    // What Reserve takes from an arena.
    static int64_t Bytes(const ServedModelImpl& model, int64_t tokens,
                         bool decodes);
  };

  absl::Status CheckTokens(std::span<const int32_t> tokens) const;
  absl::Status PrefillChunks(std::span<const int32_t> tokens, bool last);
  // Feeds `tokens`; computes the logits of the last one when `want_logits`.
  absl::Status Run(std::span<const int32_t> tokens, bool want_logits);
  absl::Status RunLayer(int64_t index, const Chunk& chunk);
  // hidden [rows, hidden] -> logits [rows, vocab].
  static absl::Status Head(const ServedModelImpl& model,
                           const kernels::TensorView& hidden,
                           const Chunk& chunk,
                           const kernels::TensorView& logits);
  static absl::Status RunRows(std::span<SequenceImpl* const> rows,
                              std::span<const int32_t> tokens,
                              DecodeMemory* memory,
                              std::span<absl::Status> outcomes);
  // Announces a token of each row and uploads what the step is told.
  static absl::Status BeginRows(std::span<SequenceImpl* const> rows,
                                std::span<const int32_t> tokens,
                                const Chunk& chunk);
  // Attention and bookkeeping of all rows in all layers.
  struct StepDecodes {
    std::vector<kernels::DecodedToken> tokens;
    std::vector<kernels::CacheDecodeParams> ops;  // views of tokens
    size_t ops_per_layer = 0;
  };
  static StepDecodes DecodesOf(std::span<SequenceImpl* const> rows,
                               const Chunk& chunk);
  static absl::Status RunLayers(const SequenceImpl& first,
                                const StepDecodes& decodes, const Chunk& chunk,
                                const kernels::TensorView& logits);
  // Of RunLayers; see RepeatParams.
  static std::vector<uint64_t> KeyOf(const SequenceImpl& first,
                                     const Chunk& chunk,
                                     const kernels::TensorView& logits);
  // Downloads what the step found; what is wrong with a row goes to its
  // outcome.
  static absl::Status EndRows(std::span<SequenceImpl* const> rows,
                              const Chunk& chunk,
                              std::span<absl::Status> outcomes);
  // Records a failure: a cache that was half updated serves no more.
  absl::Status Settle(const absl::Status& status);

  const std::shared_ptr<ServedModelImpl> model_;
  const std::shared_ptr<const RopeTable> rope_;
  const int64_t max_tokens_;
  const int64_t prompt_tokens_;  // the most the prompt may have
  KvCache cache_;
  DecodeMemory memory_;
  int64_t position_ = 0;
  bool decoding_ = false;
  absl::Status failure_;
  // Row logits_row_ of a block that the step's other rows hold, too.
  std::shared_ptr<const DeviceTensor> logits_;
  int64_t logits_row_ = 0;
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_SEQUENCE_IMPL_H_
