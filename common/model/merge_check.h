// Does an export compute what base + adapter compute? Runs both on a fixed
// probe and compares, layer by layer and at the logits.
//
// The bound. bf16 keeps 8 bits: rounding changes a weight by a factor of at
// most 1 + u, u = 2^-8, by u / sqrt(3) in the root mean square. The errors of
// the weights of a matrix are independent, so its product is off by that share
// of its own size. A layer has seven matrices and two norms, of which those in
// series add up to some 4 u / sqrt(3); its output is compared with both models
// fed the same input, so the bound of a layer does not depend on depth. Over L
// layers the errors add in the root mean square: 4 u / sqrt(3) *
// sqrt(2 L + 2) at the logits (two branches a layer, embedding and head). A
// factor of 4 is left for the largest of many values. An export with a lost or
// wrongly scaled adapter, a wrong RoPE factor or a wrong tensor is off by more,
// unless what it lacks is smaller than rounding.
//
// Memory: two layers, or one embedding, in f32, and the activations of the
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
  // The largest difference at a position over the largest |logit| there.
  double max_relative_logit_difference = 0;
  double relative_logit_bound = 0;
  // The same for what one layer adds to the residual stream.
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
