// The implementation of TrainingRun, visible so that tests can look at
// gradients and state.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_TRAINING_RUN_IMPL_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_TRAINING_RUN_IMPL_H_

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

 private:
  TrainingRunImpl(kernels::Backend* backend, const LlamaConfig& config,
                  const TrainingOptions& options)
      : backend_(backend), config_(config), options_(options) {}

  absl::Status Load(const ModelFiles& base);
  void Bind();
  absl::StatusOr<double> MicroStep(HostBatch batch, float loss_scale,
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
