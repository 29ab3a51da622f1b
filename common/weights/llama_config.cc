// SPDX-License-Identifier: Apache-2.0
#include "common/weights/llama_config.h"

#include <cmath>

#include "common/base/status.h"
#include "common/text/json.h"
#include "common/weights/llama_family.h"
#include "common/weights/rope_scaling_json.h"
#include "fmt/format.h"

namespace sinklora {

using nlohmann::ordered_json;

int64_t LlamaConfig::context_tokens() const {
  if (rope.kind == RopeKind::kLlama3) return max_position_embeddings;
  const int64_t original = rope.kind == RopeKind::kYarn
                               ? rope.original_context
                               : max_position_embeddings;
  return static_cast<int64_t>(
      std::floor(static_cast<double>(original) * rope_factor));
}

int64_t LlamaConfig::parameter_count() const {
  const int64_t query = num_heads * head_dim;
  const int64_t key = num_kv_heads * head_dim;
  const int64_t matrices =
      2 * hidden_size * (query + key) + 3 * hidden_size * intermediate_size;
  const int64_t biases = (qkv_bias ? query + 2 * key : 0) +
                         (o_bias ? hidden_size : 0) +
                         (mlp_bias ? 2 * intermediate_size + hidden_size : 0);
  const int64_t norms = 2 * hidden_size + (qk_norm ? 2 * head_dim : 0);
  const int64_t embeddings =
      (tie_word_embeddings ? 1 : 2) * vocab_size * hidden_size;
  return num_layers * (matrices + biases + norms) + hidden_size + embeddings;
}

absl::Status CheckRopeFactor(const LlamaConfig& config, double factor) {
  if (!(factor >= 1 && factor <= kMaxRopeFactor)) {
    return absl::InvalidArgumentError(fmt::format(
        "rope factor is {}, must be in [1, {}]", factor, kMaxRopeFactor));
  }
  if (factor == config.rope_factor) return absl::OkStatus();
  if (config.rope.kind == RopeKind::kLlama3) {
    return absl::InvalidArgumentError(fmt::format(
        "rope factor is {}, must be {}: llama3 scaling defines no other for a "
        "context beyond its {} tokens",
        factor, config.rope_factor, config.context_tokens()));
  }
  if (config.rope.attention_factor) {
    return absl::InvalidArgumentError(fmt::format(
        "rope factor is {}, must be {}: config.json fixes attention_factor {} "
        "for it",
        factor, config.rope_factor, *config.rope.attention_factor));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> WithRopeFactor(std::string_view text,
                                           double factor) {
  // The ordered form then keeps the order of the keys.
  SL_ASSIGN_OR_RETURN(const LlamaConfig config, ParseLlamaConfig(text));
  SL_RETURN_IF_ERROR(CheckRopeFactor(config, factor));
  ordered_json object =
      ordered_json::parse(text.begin(), text.end(), nullptr, false);
  SetRopeFactor(config, factor, &object);
  object["torch_dtype"] = "bfloat16";
  if (object.contains("dtype")) object["dtype"] = "bfloat16";  // its new name
  return object.dump(2) + "\n";
}

std::string ToJson(const LlamaConfig& config) {
  ordered_json out;
  out["architectures"] =
      ordered_json::array({ArchitectureOf(config.model_type)});
  if (config.bos_token_id) out["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_id) out["eos_token_id"] = *config.eos_token_id;
  out["head_dim"] = config.head_dim;
  out["hidden_act"] = "silu";
  out["hidden_size"] = config.hidden_size;
  out["intermediate_size"] = config.intermediate_size;
  out["max_position_embeddings"] = config.max_position_embeddings;
  out["model_type"] = config.model_type;
  out["num_attention_heads"] = config.num_heads;
  out["num_hidden_layers"] = config.num_layers;
  out["num_key_value_heads"] = config.num_kv_heads;
  out["rms_norm_eps"] = config.rms_norm_eps;
  const ordered_json scaling = RopeScalingJson(config);
  if (!scaling.is_null()) out["rope_scaling"] = scaling;
  out["rope_theta"] = config.rope_theta;
  out["tie_word_embeddings"] = config.tie_word_embeddings;
  out["torch_dtype"] = "bfloat16";
  out["vocab_size"] = config.vocab_size;
  WriteFamilyKeys(config, &out);
  return out.dump(2) + "\n";
}

}  // namespace sinklora
