// Serving side of the Llama graph: weights shared by all targets, a target
// (base, or base + adapter without merging), and sequences with their own
// cache.
//
// Threading: a Backend has one caller at a time, so everything that runs on one
// backend (Load, Create, Prefill, Decode, Score) is called from one thread, the
// engine's. Ownership: shared_ptr from sequence to target to weights: unloading
// waits for the last user.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INFERENCE_MODEL_H_
#define SINKLORA_COMMON_MODEL_INFERENCE_MODEL_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/cancellation.h"
#include "common/model/options.h"
#include "common/model/weight_type.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_adapter.h"
#include "kernels/backend.h"

namespace sinklora {

// Base weights on the device. Immutable after Load. Packed types are packed
// matrix by matrix, so that loading needs one matrix more than what is held.
class BaseWeights {
 public:
  static absl::StatusOr<std::shared_ptr<BaseWeights>> Load(
      kernels::Backend* backend, const ModelFiles& files,
      WeightType weight_type);
  virtual ~BaseWeights() = default;
  virtual const LlamaConfig& config() const = 0;
  virtual WeightType weight_type() const = 0;
  virtual int64_t weight_bytes() const = 0;
};

// What requests run against. Immutable after Create.
class ServedModel {
 public:
  // `adapter` may be null; `context_tokens` 0 takes the adapter's, or the
  // base's own. A longer context than that scales RoPE further, as its kind
  // defines it; kInvalidArgument when it does not (RopeFactorFor). Applies LoRA
  // as base product + low-rank product, DoRA by rescaling their sum; tuned
  // embedding, norms and head replace the base's. On packed bases A and B stay
  // f32, and a matrix that replaces another is bf16.
  static absl::StatusOr<std::shared_ptr<ServedModel>> Create(
      std::shared_ptr<BaseWeights> weights, const PeftAdapter* adapter,
      int64_t context_tokens);
  virtual ~ServedModel() = default;
  virtual const LlamaConfig& config() const = 0;  // of the base
  virtual int64_t context_tokens() const = 0;
  virtual double rope_factor() const = 0;
  virtual int64_t extra_bytes() const = 0;  // beyond the base weights
  // Storage of caches that ask for none: bf16 beside bf16 weights, else f32.
  virtual CacheStorage own_cache_storage() const = 0;

  struct ScoreResult {
    double nll_sum = 0;
    int64_t scored_tokens = 0;
    std::vector<float> nll;  // one a scored token
  };
  // Negative log-likelihood of token_ids[i], i >= score_from, given all before
  // it; one teacher-forced pass, full attention. kInvalidArgument for fewer
  // than 2 tokens, more than the context, ids outside the vocabulary,
  // score_from outside [1, size). Polls `cancellation` between layers.
  virtual absl::StatusOr<ScoreResult> Score(
      std::span<const int32_t> token_ids, int64_t score_from,
      const Cancellation* cancellation) = 0;
};

// Device memory of one sequence, predicted before it starts: the larger of the
// two is what must be free for it.
struct SequencePlan {
  int64_t prefill_bytes = 0;  // cache of the prompt, activations of a chunk
  int64_t decode_bytes = 0;   // cache of the budget, activations of a token
  int64_t peak_bytes() const { return std::max(prefill_bytes, decode_bytes); }
};

// Cheap: allocates nothing. Lengths as of Sequence::Create.
SequencePlan PlanSequence(const ServedModel& model, const ResolvedCache& cache,
                          int64_t max_tokens, int64_t prompt_tokens);

struct CacheUsage {
  int64_t resident_tokens = 0;  // per layer and kv head
  int64_t resident_bytes =
      0;  // K and V, and their scales, of all layers and heads held now
  int64_t peak_resident_bytes = 0;
  int64_t evicted_tokens = 0;  // per layer and kv head
};

// One request's state: its cache, its position, the logits of the last token.
// Not thread-safe.
//
// Prefill attends exactly to the whole prompt, in chunks of any size; after the
// last chunk the policy evicts once, so chunked equals one-shot bit for bit. A
// decode step appends its token, attends, adds the softmax column sums to the
// scores (H2O) and, when over budget, evicts one slot per layer and kv head,
// which the next token overwrites: memory after prefill is the budget's. budget
// >= length is bit-identical to the full cache. Every step checks that scores
// grew by exactly queries x group (relative 1e-3) and are finite, else
// kInternal with reason SCORE_INVARIANT.
//
// Sliding-window layers see what lies in their window, whatever is kept. A
// token that no later query of its layer will see is dead weight: every policy
// evicts it first, sinks and recent tokens included.
//
// Dynamic NTK: the frequencies of a sequence are those of max_tokens tokens,
// from the first token on.
class Sequence {
 public:
  // `max_tokens`: most tokens prompt and answer will have together; <= context.
  // `prompt_tokens`: of the prompt, where it is known already; 0 reserves room
  // for a prompt of max_tokens. More than was said is kOutOfRange.
  static absl::StatusOr<std::unique_ptr<Sequence>> Create(
      std::shared_ptr<ServedModel> model, const ResolvedCache& cache,
      int64_t max_tokens, int64_t prompt_tokens = 0);
  virtual ~Sequence() = default;

  // Next tokens of the prompt, >= 1; `last` with the final chunk, after which
  // logits() is set.
  virtual absl::Status Prefill(std::span<const int32_t> tokens, bool last) = 0;
  // Feeds one token, updates logits(). REQUIRES: prefill is complete.
  virtual absl::Status Decode(int32_t token) = 0;
  // [vocab] f32 in the backend's memory: the logits of the last token, until
  // the next is fed; empty before there are any. What SampleTokens takes.
  virtual kernels::ConstTensorView device_logits() const = 0;
  // Copied to the host, for callers that look at them. kFailedPrecondition
  // before there are any.
  virtual absl::StatusOr<std::vector<float>> logits() const = 0;
  virtual int64_t position() const = 0;  // tokens fed so far
  virtual CacheUsage usage() const = 0;
  // H2O: the share of all attention paid so far, over all layers and heads,
  // that went to tokens which are still held, in [0, 1]; below 1 once something
  // was evicted. 1 for the other policies, which keep no scores. Costs a copy
  // of the scores to the host.
  virtual absl::StatusOr<double> RetainedAttentionRatio() const = 0;
  // Kept positions of one layer and kv head, ascending, for tests and
  // diagnosis.
  virtual std::vector<int32_t> KeptPositions(int64_t layer,
                                             int64_t kv_head) const = 0;
};

// Decodes a token of several sequences in one step, reading the weights once
// for all sequences of one target (dynamic NTK: and of one max_tokens). Each
// gets the bits that Sequence::Decode gives it. Holds the step's activations,
// so one is kept from step to step; it must not outlive the backend.
class BatchDecoder {
 public:
  static std::unique_ptr<BatchDecoder> Create();
  virtual ~BatchDecoder() = default;
  // Feeds tokens[i] to sequences[i], of any targets on one backend; one status
  // each, those of Sequence::Decode. One that fails leaves the others as they
  // are, but for an op that fails, which every sequence of the target does.
  // REQUIRES: as many tokens as sequences, no sequence twice.
  virtual std::vector<absl::Status> Decode(std::span<Sequence* const> sequences,
                                           std::span<const int32_t> tokens) = 0;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_INFERENCE_MODEL_H_
