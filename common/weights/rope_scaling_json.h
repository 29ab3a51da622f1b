// The RoPE part of config.json, read and written: rope_theta, rope_scaling
// (keys "type" and "rope_type") and transformers 5's rope_parameters.
//
// Thread-safe (functions only). Private to this folder.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_ROPE_SCALING_JSON_H_
#define SINKLORA_COMMON_WEIGHTS_ROPE_SCALING_JSON_H_

#include "absl/status/status.h"
#include "common/weights/llama_config.h"
#include "nlohmann/json.hpp"

namespace sinklora {

inline constexpr double kMaxRopeFactor = 65536;

// Fills rope_theta, rope_factor and rope. REQUIRES: max_position_embeddings is
// set.
absl::Status ParseRope(const nlohmann::json& object, LlamaConfig* config);

// The value of rope_scaling for `config`; null when there is no scaling.
nlohmann::ordered_json RopeScalingJson(const LlamaConfig& config);

// Changes `object`, a config.json that parses to `config`, to `factor`.
// REQUIRES: CheckRopeFactor(config, factor).
void SetRopeFactor(const LlamaConfig& config, double factor,
                   nlohmann::ordered_json* object);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_ROPE_SCALING_JSON_H_
