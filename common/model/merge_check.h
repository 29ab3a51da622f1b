// Does an export compute what base + adapter compute? Runs both on a fixed
// probe and compares, layer by layer and at the logits.
//
// The bound. bf16 keeps 8 bits: rounding a weight changes it by a factor within
// 1 +- 2^-8. How far that moves a logit depends on the model (large attention
// scores amplify it), so it is measured and not guessed: a third run has base +
// adapter with every weight off by a random factor of that size. An export may
// differ three times as much: its errors are no larger, but the largest of
// many values is compared. An export with a lost or wrongly scaled adapter, a
// wrong RoPE factor or a wrong tensor differs by more, unless what is wrong is
// smaller than rounding. Each layer is compared on its own as well, all runs
// fed the same input, so that the errors of other layers hide nothing.
//
// Memory: three layers, or one embedding, in f32, and the activations of the
// probe; a model of any size can be checked.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_MERGE_CHECK_H_
#define SINKLORA_COMMON_MODEL_MERGE_CHECK_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/weights/peft_adapter.h"
#include "kernels/backend.h"

namespace sinklora {

struct MergeCheck {
  int64_t probe_tokens = 0;
  double max_abs_logit_difference = 0;
  // The largest difference at a position over the largest |logit| there, and
  // what it may be.
  double max_relative_logit_difference = 0;
  double relative_logit_bound = 0;
  // The same for what one layer adds to the residual stream; of the layer that
  // comes nearest to its bound.
  double max_relative_layer_difference = 0;
  double relative_layer_bound = 0;
};

// Compares base + `adapter` with the model in `merged_directory`, or with that
// model + `merged_adapter` (not null) for a split export. Deterministic.
// kDataLoss naming the place, the difference and the bound when a difference is
// over its bound or not finite; kFailedPrecondition when an adapter does not
// fit its base or the models have different shapes. One caller at a time per
// backend, as everything that runs on one.
absl::StatusOr<MergeCheck> CheckMerge(
    kernels::Backend* backend, const std::string& base_directory,
    const PeftAdapter& adapter, const std::string& merged_directory,
    const PeftAdapter* merged_adapter = nullptr);

// MergeAdapter, then CheckMerge of what it wrote. `out_directory` must not
// exist and does not after an error.
absl::StatusOr<MergeCheck> MergeAndCheck(kernels::Backend* backend,
                                         const std::string& base_directory,
                                         const PeftAdapter& adapter,
                                         const std::string& out_directory);
// The same for WriteSplitAdapter: reads both directories back.
absl::StatusOr<MergeCheck> SplitAndCheck(kernels::Backend* backend,
                                         const std::string& base_directory,
                                         const PeftAdapter& adapter,
                                         const std::string& adapter_directory,
                                         const std::string& base_out_directory);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_MERGE_CHECK_H_
