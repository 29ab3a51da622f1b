// One fine-tuning run: weights, LoRA matrices, optimizer state, and the step
// that is a pure function of them and the batch.
//
// A run is deterministic: the same base, options and batches give the same bits
// on any number of threads, and a run restored by LoadCheckpoint() continues
// with the bits of one that never stopped. The number of backends changes the
// order in which gradients are added, and so their last bits.
//
// Not thread-safe. Borrows its backends, which must outlive it. The base's
// files may be closed after Create().
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_TRAINING_RUN_H_
#define SINKLORA_COMMON_MODEL_TRAINING_RUN_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/cancellation.h"
#include "common/model/options.h"
#include "common/model/rank_place.h"
#include "common/weights/model_files.h"
#include "kernels/backend.h"

namespace sinklora {

// Documents packed into one row. Token t predicts token t + 1 of its document
// where supervised[t + 1] is set.
struct TrainingExample {
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> supervised;       // same length
  std::vector<int64_t> document_tokens;  // sums to the length
};

struct StepMetrics {
  int64_t step = 0;          // optimizer steps done, this one included
  double loss = 0;           // nats a supervised token
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t tokens = 0;
  int64_t supervised_tokens = 0;
};

// Bytes by component, predicted before the run starts.
struct TrainingPlan {
  double rope_factor = 1;
  int64_t group_size_tokens = 0;
  int64_t shifted_heads = 0;
  int64_t sink_tokens = 0;
  int64_t trainable_parameters = 0;
  int64_t weight_bytes = 0;
  int64_t trainable_bytes = 0;  // master weights, gradients, two moments
  int64_t activation_bytes = 0;
  int64_t peak_bytes = 0;  // sum of the three
  // Activations of ValidationLoss(), in the place of activation_bytes: more
  // than these only where context_parallel cuts a training example up.
  int64_t validation_bytes = 0;
};

// What a run of these options on `base` will need on each of its devices, for
// examples of `example_tokens`; with context_parallel, of one document each,
// since packed ones may be cut up to a group less evenly. Leaves out what
// devices keep to work together (JoinCollectiveParams). Cheap: opens nothing.
absl::StatusOr<TrainingPlan> PlanTraining(const LlamaConfig& base,
                                          const TrainingOptions& options,
                                          int64_t example_tokens);

class TrainingRun {
 public:
  // Loads the weights and draws the initial LoRA matrices (A: kaiming uniform
  // as PEFT, B: 0). kInvalidArgument for a context_parallel of more than 1.
  static absl::StatusOr<std::unique_ptr<TrainingRun>> Create(
      kernels::Backend* backend, const ModelFiles& base,
      const TrainingOptions& options);
  // The same on several GPUs: each holds all of the model and adds its
  // gradients to the others'. context_parallel of them, one after the other in
  // `backends`, share every micro-step, a part of its tokens each; as many such
  // groups as there are share a step's micro-steps (data-parallel). Checkpoints
  // are those of one backend; a run may go on with another number.
  // kInvalidArgument for no backend, for a number that context_parallel does
  // not divide, or for more groups than accumulation_steps: each needs a
  // micro-step. kUnimplemented and kUnavailable as
  // Backend::JoinCollective. After a failure in the middle of an update or of
  // LoadCheckpoint() the backends hold different weights: every call is
  // kFailedPrecondition then, until LoadCheckpoint() succeeds.
  //
  // With a place, `backends` are some of the ranks of a run that spans
  // processes; the numbers above are those of all. Each process makes the same
  // calls of Step(), ValidationLoss() and LoadCheckpoint() in the same order,
  // and the bits are those of one process with as many devices. Of these calls
  // kCancelled comes on all processes at the same step, once `cancellation` of
  // any was set. Other errors do not travel: the other processes wait until
  // their place's abort, or fail with kUnavailable when the link says that
  // somebody is gone, and leave their weights as they were or are
  // kFailedPrecondition, as above. Waits in Create() for all processes.
  static absl::StatusOr<std::unique_ptr<TrainingRun>> Create(
      std::span<kernels::Backend* const> backends, const ModelFiles& base,
      const TrainingOptions& options, const RankPlace& place = {});
  virtual ~TrainingRun() = default;

  virtual int64_t step() const = 0;  // optimizer steps done
  virtual int64_t trainable_parameters() const = 0;

  // One optimizer step over accumulation_steps * micro_batch_examples examples.
  // The loss is the mean over the supervised tokens of all of them. kCancelled
  // (checked before every micro-step), kInvalidArgument (an example without
  // supervised tokens, longer than the context, or with ids outside the
  // vocabulary) and kInternal with reason NON_FINITE_LOSS or
  // NON_FINITE_GRADIENT leave weights and optimizer state as they were.
  virtual absl::StatusOr<StepMetrics> Step(
      std::span<const TrainingExample> examples,
      const Cancellation* cancellation) = 0;

  // Mean loss in nats a supervised token, with full attention, as the model
  // will be served.
  virtual absl::StatusOr<double> ValidationLoss(
      std::span<const TrainingExample> examples,
      const Cancellation* cancellation) = 0;

  // Trainable tensors, moments and step as state.safetensors + manifest.json in
  // `directory`. Options are stored too, and LoadCheckpoint refuses
  // (kFailedPrecondition) a checkpoint of other options, steps excepted.
  // Of a run that spans processes the one with rank 0 reads `directory` and the
  // others get what it read; "" there means that there is none, and all stay as
  // they are. Until a call of it has succeeded none of the others returns.
  virtual absl::Status SaveCheckpoint(const std::string& directory) = 0;
  virtual absl::Status LoadCheckpoint(const std::string& directory) = 0;

  // LoRA: a PEFT adapter. Full-parameter: a Hugging Face directory with the
  // base's config (new RoPE factor) and tokenizer files, taken from
  // `base_directory`, weights in bf16.
  virtual absl::Status WriteResult(const std::string& base_model_name,
                                   const std::string& base_directory,
                                   const std::string& out_directory) = 0;
};

// Which examples optimizer step `step` uses: a function of (seed, epoch, index)
// alone. Each epoch is a fresh permutation.
std::vector<int64_t> ExamplesOfStep(uint64_t seed, int64_t num_examples,
                                    int64_t examples_per_step, int64_t step);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_TRAINING_RUN_H_
