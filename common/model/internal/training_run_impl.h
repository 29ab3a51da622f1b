// The implementation of TrainingRun, visible so that tests can look at
// gradients and state.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_TRAINING_RUN_IMPL_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_TRAINING_RUN_IMPL_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "common/model/internal/arena.h"
#include "common/model/internal/device_tensor.h"
#include "common/model/internal/layer.h"
#include "common/model/internal/model_weights.h"
#include "common/model/internal/pass.h"
#include "common/model/internal/rope_table.h"
#include "common/model/internal/trainable.h"
#include "common/model/training_run.h"

namespace sinklora::internal {

// One of `size` runs that divide the micro-steps of a step, or the examples of
// a validation: takes those with index rank, rank + size, ...
struct Share {
  int rank = 0;
  int size = 1;
};

// One of `size` ranks that every micro-step is cut over: those from `first` on.
struct ContextPlace {
  kernels::Collective* collective = nullptr;  // not needed for one
  int first = 0;
  int place = 0;
  int size = 1;
};

class TrainingRunImpl : public TrainingRun {
 public:
  static absl::StatusOr<std::unique_ptr<TrainingRunImpl>> Create(
      kernels::Backend* backend, const ModelFiles& base,
      const TrainingOptions& options);

  int64_t step() const override { return step_; }
  int64_t trainable_parameters() const override {
    return trainables_.parameters();
  }
  absl::StatusOr<StepMetrics> Step(std::span<const TrainingExample> examples,
                                   const Cancellation* cancellation) override;
  absl::StatusOr<double> ValidationLoss(
      std::span<const TrainingExample> examples,
      const Cancellation* cancellation) override;
  absl::Status SaveCheckpoint(const std::string& directory) override;
  absl::Status LoadCheckpoint(const std::string& directory) override;
  absl::Status WriteResult(const std::string& base_model_name,
                           const std::string& base_directory,
                           const std::string& out_directory) override;

  // The first half of Step(): mean loss, and the gradients in trainables().
  absl::StatusOr<double> ComputeGradients(
      std::span<const TrainingExample> examples,
      const Cancellation* cancellation);
  const TrainableSet& trainables() const { return trainables_; }

  // --- the parts of Step() and ValidationLoss(), for runs that share them
  absl::Status CheckStep(std::span<const TrainingExample> examples) const;
  absl::Status CheckValidation(std::span<const TrainingExample> examples) const;
  // Gradients <- those of the mean loss over all `examples`, as far as they
  // come from this share and, in it, from this place. The sum of the losses of
  // these, in nats. `stop`, when given, cancels between micro-steps like
  // `cancellation`. REQUIRES: CheckStep(examples); all places of a share call
  // it.
  absl::StatusOr<double> AccumulateGradients(
      std::span<const TrainingExample> examples, Share share,
      const ContextPlace& place, const Cancellation* cancellation,
      const std::atomic<bool>* stop);
  // kInternal, reason NON_FINITE_GRADIENT, unless it is finite.
  absl::StatusOr<double> GradientNorm();
  // The update, and what Step() returns. `nll_sum`: over all shares.
  absl::StatusOr<StepMetrics> ApplyGradients(
      std::span<const TrainingExample> examples, double nll_sum,
      double gradient_norm);
  // Sum of the losses of one example with full attention, in nats.
  absl::StatusOr<double> ValidationNll(const TrainingExample& example,
                                       const Cancellation* cancellation);
  // What ValidationLoss() returns. `nll`: of each example, in order.
  absl::StatusOr<double> MeanValidationLoss(
      std::span<const TrainingExample> examples,
      std::span<const double> nll) const;
  // Others have written masters and moments: those after `step` steps.
  absl::Status StateReplaced(int64_t step);

 private:
  TrainingRunImpl(kernels::Backend* backend, const LlamaConfig& config,
                  const TrainingOptions& options)
      : backend_(backend), config_(config), options_(options) {}

  absl::Status Load(const ModelFiles& base);
  void Bind();
  // 0 when the batch has no part for the place.
  absl::StatusOr<double> MicroStep(HostBatch batch, const ContextPlace& place,
                                   float loss_scale,
                                   const Cancellation* cancellation);
  absl::StatusOr<double> RunPasses(const Graph& graph, const HostBatch& batch,
                                   float loss_scale,
                                   const Cancellation* cancellation);
  absl::Status WriteAdapter(const std::string& base_model_name,
                            const std::string& out_directory);
  absl::Status WriteModel(const std::string& base_directory,
                          const std::string& out_directory);

  kernels::Backend* const backend_;
  const LlamaConfig config_;
  const TrainingOptions options_;
  int64_t step_ = 0;
  TrainableSet trainables_;
  std::map<std::string, DeviceTensor> frozen_;
  RopeTables rope_;
  ModelWeights weights_;  // views of the above
  Arena arena_;           // reused by every pass
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_TRAINING_RUN_IMPL_H_
