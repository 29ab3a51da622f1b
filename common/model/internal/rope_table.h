// cos and sin of every position of a context, for every kind of RoPE scaling.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_ROPE_TABLE_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_ROPE_TABLE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/internal/device_tensor.h"
#include "common/weights/llama_config.h"
#include "kernels/backend.h"

namespace sinklora::internal {

// Immutable after Create; must not outlive its Backend.
struct RopeTable {
  // As many rows as tokens for sequences of each of `lengths`, one sequence
  // after the other, of a model of `config` run with `factor`. Row p of a
  // sequence holds cos and sin of p times the frequencies of rope_frequencies.h
  // for its length, times their attention factor; computed in double, stored
  // f32.
  static absl::StatusOr<RopeTable> Create(kernels::Backend* backend,
                                          const LlamaConfig& config,
                                          double factor,
                                          std::span<const int64_t> lengths);
  static int64_t SizeBytes(int64_t rows, int64_t head_dim) {
    return rows * head_dim * static_cast<int64_t>(sizeof(float));
  }

  DeviceTensor cos;  // [rows, head_dim / 2] f32
  DeviceTensor sin;
};

// The tables of a model that is run up to a context. One serves all sequences,
// but for dynamic NTK, whose frequencies follow the length of the sequence from
// max_position_embeddings on: each longer sequence gets one of its own, made
// for its whole length, so that all of its tokens turn alike. (transformers
// computes the same for one forward pass over the sequence; when it decodes
// token by token, earlier keys keep the frequencies of their time.)
//
// Not thread-safe, as its Backend. Must not outlive it.
class RopeTables {
 public:
  static absl::StatusOr<RopeTables> Create(kernels::Backend* backend,
                                           const LlamaConfig& config,
                                           double factor,
                                           int64_t context_tokens);
  // What Create allocates, and the most that ForDocuments adds for documents of
  // `tokens` tokens in all, or ForLength for one.
  static int64_t SizeBytes(const LlamaConfig& config, int64_t context_tokens,
                           int64_t tokens);

  // The table of a sequence. REQUIRES: length <= context_tokens.
  absl::StatusOr<std::shared_ptr<const RopeTable>> ForLength(
      int64_t length) const;
  // The table of documents packed one after the other, each turned as it would
  // be alone; *rows becomes the row of every token. REQUIRES: every length <=
  // context_tokens.
  absl::StatusOr<std::shared_ptr<const RopeTable>> ForDocuments(
      std::span<const int64_t> lengths, std::vector<int32_t>* rows) const;

 private:
  kernels::Backend* backend_ = nullptr;
  LlamaConfig config_;
  double factor_ = 1;
  int64_t shared_rows_ = 0;
  std::shared_ptr<const RopeTable> shared_;
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_ROPE_TABLE_H_
