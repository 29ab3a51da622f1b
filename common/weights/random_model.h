// A Llama with random weights: where training from nothing starts.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_RANDOM_MODEL_H_
#define SINKLORA_COMMON_WEIGHTS_RANDOM_MODEL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace sinklora {

// Writes the weights (bf16, sharded by ModelWeightsWriter when they are large)
// and then config.json (as given) into `directory`, made when absent. Matrices
// are normal with deviation 0.02, those that write to the residual stream
// (o_proj, down_proj) divided by sqrt(2 * layers); norms are 1, biases 0. A
// function of the config and `seed` alone.
absl::Status WriteRandomModel(const std::string& directory,
                              std::string_view config_json, uint64_t seed);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_RANDOM_MODEL_H_
