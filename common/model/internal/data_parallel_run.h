// A training run over several backends. Every rank is a run of its own with all
// the weights. With context_parallel c, ranks [g c, (g + 1) c) are group g; of
// a step, group g of n takes the micro-steps g, g + n, ..., and each of its
// ranks a part of the tokens of all of these (context_shard.h).
//
// All ranks reach the same point before any goes on: first everyone's
// gradients, then their sum and its norm, then the update. So a rank that fails
// before the update leaves all weights as they were, and no rank waits for one
// that is gone.
//
// Ranks may be those of several processes (RankPlace), each of which has a run
// and makes the same calls with the same arguments, `cancellation` apart. What
// ranks of one process tell each other by its memory, those of several do by
// the collective: losses, norms, the step of a checkpoint, and whether to stop.
// They stop together, between two steps, once any of them was cancelled. A
// process that fails by itself does not tell the others: whoever started it
// aborts them.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_DATA_PARALLEL_RUN_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_DATA_PARALLEL_RUN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/model/device_group.h"
#include "common/model/internal/training_run_impl.h"

namespace sinklora::internal {

// That so many devices are not a multiple of context_parallel.
absl::Status ContextDoesNotFit(const TrainingOptions& options, int64_t devices);

class DataParallelRun final : public TrainingRun {
 public:
  static absl::StatusOr<std::unique_ptr<DataParallelRun>> Create(
      std::span<kernels::Backend* const> backends, const ModelFiles& base,
      const TrainingOptions& options, const RankPlace& place = {});

  int64_t step() const override { return runs_[0]->step(); }
  int64_t trainable_parameters() const override {
    return runs_[0]->trainable_parameters();
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

  int size() const { return group_.size(); }  // of all processes
  const TrainingRunImpl& run(int local) const { return *runs_[local]; }

 private:
  DataParallelRun(std::span<kernels::Backend* const> backends,
                  int64_t chunk_elements, int context_parallel,
                  const RankPlace& place)
      : group_(backends, chunk_elements, place),
        context_parallel_(context_parallel),
        runs_(backends.size()) {}

  bool has_rank_0() const { return group_.RankOf(0) == 0; }
  // DeviceGroup::Share() of `values` that each rank has made some of. `made`:
  // how that went here, which is returned unless OK; that this process was
  // cancelled is told to all, who return it, too.
  absl::Status Agree(const absl::Status& made, const Cancellation* cancellation,
                     const std::function<int(size_t)>& owner,
                     std::span<double> values);

  // The three parts of a step. The first two change no weights.
  absl::StatusOr<double> AccumulateGradients(  // the sum of losses, in nats
      std::span<const TrainingExample> examples,
      const Cancellation* cancellation);
  absl::StatusOr<double> SumGradients();  // their norm
  absl::StatusOr<StepMetrics> ApplyGradients(
      std::span<const TrainingExample> examples, double nll_sum,
      double gradient_norm);

  DeviceGroup group_;
  const int context_parallel_;
  std::vector<std::unique_ptr<TrainingRunImpl>> runs_;  // of this process
  absl::Status out_of_step_;                            // why ranks differ
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_DATA_PARALLEL_RUN_H_
