// What sets the architectures of the Llama family apart in config.json: their
// names, biases, q/k norms and sliding windows, and the keys that are refused.
//
// Thread-safe (functions only). Private to this folder.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_LLAMA_FAMILY_H_
#define SINKLORA_COMMON_WEIGHTS_LLAMA_FAMILY_H_

#include <string>

#include "absl/status/status.h"
#include "common/weights/llama_config.h"
#include "nlohmann/json.hpp"

namespace sinklora {

// "LlamaForCausalLM" of "llama". REQUIRES: a known model_type.
std::string ArchitectureOf(const std::string& model_type);

// Fills model_type; refuses an unknown one, and keys that would change the
// computation.
absl::Status ParseArchitecture(const nlohmann::json& object,
                               LlamaConfig* config);
// Fills biases, qk_norm and the sliding window. REQUIRES: model_type and
// num_layers are set.
absl::Status ParseFamilyKeys(const nlohmann::json& object, LlamaConfig* config);
// The other way round.
void WriteFamilyKeys(const LlamaConfig& config, nlohmann::ordered_json* object);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_LLAMA_FAMILY_H_
