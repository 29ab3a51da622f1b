// config.json of a Hugging Face model of the Llama family: Llama 1 to 3.2
// (SmolLM and TinyLlama are such), Mistral, Qwen2 and 2.5, Qwen3.
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

// How RoPE reaches positions beyond those of pre-training. The formulas are in
// rope_frequencies.h.
enum class RopeKind {
  kLinear,   // positions are divided by the factor; factor 1: no scaling
  kDynamic,  // NTK: the base grows with the length of the sequence
  kYarn,     // 2309.00071
  kLlama3,   // Llama 3.1
};

// "linear", "dynamic", "yarn", "llama3".
const char* RopeKindName(RopeKind kind);

// The longest context that is trained or served.
inline constexpr int64_t kMaxContextTokens = int64_t{1} << 20;

// What the kinds need besides LlamaConfig::rope_factor. Fields of another kind
// keep their defaults.
struct RopeScaling {
  RopeKind kind = RopeKind::kLinear;
  // kYarn, kLlama3: positions of pre-training. kDynamic takes
  // max_position_embeddings.
  int64_t original_context = 0;
  // kYarn. attention_factor, when given, replaces the one of the factor.
  std::optional<double> attention_factor;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 0;  // 0: not given
  double mscale_all_dim = 0;
  bool truncate = true;
  // kLlama3
  double low_freq_factor = 1;
  double high_freq_factor = 4;
};

struct LlamaConfig {
  std::string model_type = "llama";  // llama, mistral, qwen2, qwen3
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
  double rope_factor = 1.0;  // of rope.kind
  RopeScaling rope;
  bool qkv_bias = false;  // of q_proj, k_proj, v_proj
  bool o_bias = false;    // of o_proj
  bool mlp_bias = false;  // of gate_proj, up_proj, down_proj
  bool qk_norm = false;   // RMS norm of every query and key head before RoPE
  // In layers from first_sliding_layer on, a token sees itself and the
  // sliding_window - 1 tokens before it. 0: every layer sees all.
  int64_t sliding_window = 0;
  int64_t first_sliding_layer = 0;
  bool tie_word_embeddings = false;
  std::optional<int32_t> bos_token_id;
  std::optional<int32_t> eos_token_id;

  // Context in tokens. kLinear and kDynamic: max_position_embeddings *
  // rope_factor (LongLoRA's convention: config keeps the original length);
  // kYarn: rope.original_context * rope_factor; kLlama3:
  // max_position_embeddings.
  int64_t context_tokens() const;
  // Window of `layer`, 0 when it sees all.
  int64_t window(int64_t layer) const {
    return layer >= first_sliding_layer ? sliding_window : 0;
  }
  // Total parameters of such a model.
  int64_t parameter_count() const;
};

// Parses and checks config.json. What is not said takes the default that
// transformers gives that model_type. kInvalidArgument naming the key, the
// value and what is allowed for another architecture, an activation other than
// silu, keys that would change the computation (quantization, experts, soft
// caps, code of its own, ...), a rope_scaling of another kind or with keys of
// another kind, rope_scaling and rope_parameters that disagree, sliding windows
// other than in the last layers, and sizes out of range (every size in
// [1, 2^31), num_heads a multiple of num_kv_heads, head_dim a multiple of 8 up
// to 256). Both spellings of rope_scaling ("type", "rope_type") and the
// rope_parameters of transformers 5 are read.
absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view json);

// Whether the model may be run with `factor` in place of its rope_factor. Its
// own always; another one in [1, 65536] where the kind defines it: kLinear,
// kDynamic and kYarn do (context = factor times the original), unless an
// attention_factor was fixed for kYarn's own. kLlama3 does not: its factor
// follows from no context. kInvalidArgument says which.
absl::Status CheckRopeFactor(const LlamaConfig& config, double factor);

// `json` (an existing config.json) with its rope_factor replaced and nothing
// else but torch_dtype = bfloat16 changed: what transformers, vLLM and
// llama.cpp need to run the longer context. Linear with factor 1 removes
// rope_scaling. For kYarn max_position_embeddings follows, as versions of
// transformers derive the factor from it. Refuses what CheckRopeFactor does.
absl::StatusOr<std::string> WithRopeFactor(std::string_view json,
                                           double factor);
// A complete config.json.
std::string ToJson(const LlamaConfig& config);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_LLAMA_CONFIG_H_
