// The trainable set: a list of named tensors with master value, gradient and
// the two moments of AdamW.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_TRAINABLE_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_TRAINABLE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/internal/device_tensor.h"
#include "common/model/internal/row_set.h"
#include "common/model/options.h"
#include "common/weights/model_files.h"
#include "kernels/backend.h"

namespace sinklora::internal {

enum class InitKind { kFromBase, kKaimingUniform, kZero };

// What a run of given options trains. A pure function of config and options, so
// that planning needs no weights.
struct TrainableSpec {
  std::string name;  // Hugging Face tensor name, or <module>.lora_A / .lora_B
  std::vector<int64_t> shape;
  InitKind init = InitKind::kFromBase;
  bool weight_decay = false;
  bool bf16_product = false;  // matrix products read a bf16 copy
  // An embedding that is not the head too: its gradient is zero but for the
  // rows of the tokens.
  bool gradient_of_tokens = false;

  int64_t num_elements() const;
};
std::vector<TrainableSpec> TrainableSpecs(const LlamaConfig& config,
                                          const TrainingOptions& options);

inline constexpr const char* kLoraASuffix = ".lora_A";
inline constexpr const char* kLoraBSuffix = ".lora_B";

// One of them on the device. master, grad, m and v are f32 of spec.shape.
struct Trainable {
  TrainableSpec spec;
  DeviceTensor master, grad, m, v;
  DeviceTensor product;  // bf16, empty unless spec.bf16_product
  // Unless empty, all rows that are not zero: of grad, and of m and v.
  RowSet gradient_rows, moment_rows;
};

// Not thread-safe. Must not outlive the backend.
class TrainableSet {
 public:
  // Values from `base` or drawn from (seed, position in the list); moments 0.
  static absl::StatusOr<TrainableSet> Create(kernels::Backend* backend,
                                             std::vector<TrainableSpec> specs,
                                             const ModelFiles& base,
                                             uint64_t seed);

  const std::vector<Trainable>& tensors() const { return tensors_; }
  // Null when `name` is not trained.
  const Trainable* Find(const std::string& name) const;
  int64_t parameters() const;

  absl::Status ZeroGradients();
  // Gradients of these tokens are about to be added.
  absl::Status ExpectTokens(std::span<const int32_t> ids);
  // sqrt of the sum of squares of all gradients.
  absl::StatusOr<double> GradientNorm();
  // AdamW on every tensor; `step` counts from 1.
  absl::Status Update(const OptimizerOptions& options, int64_t step,
                      double learning_rate, double grad_scale);
  // Brings what follows from masters and moments up to date. Call after others
  // than Update() changed them.
  absl::Status StateChanged();

 private:
  // Copies masters into their bf16 products.
  absl::Status RefreshProducts();

  kernels::Backend* backend_ = nullptr;
  std::vector<Trainable> tensors_;
  std::map<std::string, size_t> index_;
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_TRAINABLE_H_
