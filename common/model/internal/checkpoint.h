// Checkpoints of a training run: state.safetensors (for every trainable tensor
// its value and both moments) and manifest.json (format version, step, options,
// base shape, size and SHA-256 of the state). The manifest is written last: a
// directory without one is not a checkpoint.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_CHECKPOINT_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_CHECKPOINT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/internal/trainable.h"
#include "common/model/options.h"

namespace sinklora::internal {

// Everything of the options that changes what a run computes, as canonical
// JSON: `steps` is left out.
std::string OptionsJson(const LlamaConfig& config,
                        const TrainingOptions& options);

absl::Status WriteCheckpoint(kernels::Backend* backend,
                             const TrainableSet& trainables, int64_t step,
                             const std::string& options_json,
                             const std::string& directory);

// Checks everything, then restores `trainables`; returns the step. kDataLoss
// naming the file for wrong sizes, hashes or contents, kFailedPrecondition for
// other options.
absl::StatusOr<int64_t> ReadCheckpoint(kernels::Backend* backend,
                                       const std::string& options_json,
                                       const std::string& directory,
                                       TrainableSet* trainables);

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_CHECKPOINT_H_
