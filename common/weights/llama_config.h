// config.json of a Hugging Face Llama model.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_LLAMA_CONFIG_H_
#define SINKLORA_COMMON_WEIGHTS_LLAMA_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinklora {

struct LlamaConfig {
  std::string model_type = "llama";
  int64_t num_layers = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;  // hidden_size / num_heads unless given
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;
  double rope_factor = 1.0;  // linear scaling: positions are divided by it
  bool tie_word_embeddings = false;
  std::optional<int32_t> bos_token_id;
  std::optional<int32_t> eos_token_id;

  // Context in tokens: max_position_embeddings * rope_factor (LongLoRA's
  // convention: config keeps the original length).
  int64_t context_tokens() const;
  // Total parameters of such a model.
  int64_t parameter_count() const;
};

// Parses and checks config.json. kInvalidArgument naming the field and the
// value for another architecture, a rope_scaling other than linear (old and new
// key spelling), attention or MLP bias, an activation other than silu, sizes
// out of range (every size in [1, 2^31), num_heads a multiple of num_kv_heads,
// head_dim a multiple of 8 up to 256).
absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view json);

// `json` (an existing config.json) with rope_scaling set to linear `factor` and
// nothing else but torch_dtype = bfloat16 changed: what transformers, vLLM and
// llama.cpp need to run the longer context. A factor of 1 removes rope_scaling.
absl::StatusOr<std::string> WithRopeFactor(std::string_view json,
                                           double factor);
// A complete config.json.
std::string ToJson(const LlamaConfig& config);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_LLAMA_CONFIG_H_
