// Chooses next tokens from logits where these are: kernels/sampling. Only ids
// come back to the host. Randomness is a function of (seed, index).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_SAMPLER_H_
#define SINKLORA_COMMON_MODEL_SAMPLER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace sinklora {

struct SamplingOptions {
  double temperature = 0;  // [0, 10]; 0 is greedy (ties: the smaller id)
  int32_t top_k = 0;       // 0: all
  double top_p = 1;        // (0, 1]
  uint64_t seed = 0;
};
absl::Status Validate(const SamplingOptions& options);

struct SampleRequest {
  kernels::ConstTensorView logits;  // [vocab] f32, in the backend's memory
  SamplingOptions options{};
  int64_t index = 0;  // of the token in its text
};

// One op for all. Order: top_k, temperature, top_p. The token of a request is a
// function of its logits, options and index alone, on any backend and beside
// any others. One outcome each: kInvalidArgument for options or logits that are
// none, kInternal with reason NON_FINITE_LOGITS when a logit is NaN or +Inf;
// the others get their tokens. A failure of the device is everyone's.
// Thread-compatible, as the backend is.
std::vector<absl::StatusOr<int32_t>> SampleTokens(
    kernels::Backend* backend, std::span<const SampleRequest> requests);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_SAMPLER_H_
