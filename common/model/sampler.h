// Chooses the next token from logits. Thread-safe (stateless): randomness is a
// function of (seed, index).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_SAMPLER_H_
#define SINKLORA_COMMON_MODEL_SAMPLER_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinklora {

struct SamplingOptions {
  double temperature = 0;  // [0, 10]; 0 is greedy (ties: the smaller id)
  int32_t top_k = 0;       // 0: all
  double top_p = 1;        // (0, 1]
  uint64_t seed = 0;
};
absl::Status Validate(const SamplingOptions& options);

// Order: top_k, temperature, top_p. kInternal with reason NON_FINITE_LOGITS
// when a logit is NaN or +Inf.
absl::StatusOr<int32_t> SampleToken(std::span<const float> logits,
                                    const SamplingOptions& options,
                                    int64_t index);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_SAMPLER_H_
