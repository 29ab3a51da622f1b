// SPDX-License-Identifier: Apache-2.0
#include "common/weights/llama_config.h"

#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "common/text/json.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr char kWhat[] = "config.json";
constexpr int64_t kMaxSize = (int64_t{1} << 31) - 1;
constexpr double kMaxRopeFactor = 65536;

absl::Status BadField(const std::string& field, const std::string& value,
                      const std::string& expected) {
  return absl::InvalidArgumentError(
      fmt::format("{}: {} is {}, {}", kWhat, field, value, expected));
}

absl::StatusOr<int64_t> RequiredSize(const json& object, const char* key) {
  SL_ASSIGN_OR_RETURN(const auto value,
                      GetInt(object, key, 1, kMaxSize, kWhat));
  if (!value) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} is missing", kWhat, key));
  }
  return *value;
}

absl::Status CheckArchitecture(const json& object) {
  SL_ASSIGN_OR_RETURN(const auto type, GetString(object, "model_type", kWhat));
  if (type != "llama") {
    return BadField("model_type", type ? "'" + *type + "'" : "missing",
                    "only 'llama' is supported");
  }
  if (const json* list = FindField(object, "architectures")) {
    if (*list != json::array({"LlamaForCausalLM"})) {
      return BadField("architectures", JsonExcerpt(*list),
                      "only LlamaForCausalLM is supported");
    }
  }
  SL_ASSIGN_OR_RETURN(const auto activation,
                      GetString(object, "hidden_act", kWhat));
  if (activation.value_or("silu") != "silu") {
    return BadField("hidden_act", "'" + *activation + "'",
                    "only 'silu' is supported");
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    SL_ASSIGN_OR_RETURN(const auto bias, GetBool(object, key, kWhat));
    if (bias.value_or(false)) {
      return BadField(key, "true", "only false is supported");
    }
  }
  SL_ASSIGN_OR_RETURN(const auto rotary,
                      GetNumber(object, "partial_rotary_factor", kWhat));
  if (rotary.value_or(1) != 1) {
    return BadField("partial_rotary_factor", fmt::format("{}", *rotary),
                    "only 1 is supported");
  }
  if (const json* quantization = FindField(object, "quantization_config")) {
    return BadField("quantization_config", JsonExcerpt(*quantization),
                    "quantized models are not supported");
  }
  return absl::OkStatus();
}

// Reads {"type"|"rope_type": "linear", "factor": f} of rope_scaling, or of
// rope_parameters, which holds rope_theta too.
absl::Status ParseRope(const json& object, const char* key,
                       LlamaConfig* config) {
  const json* rope = FindField(object, key);
  if (rope == nullptr) return absl::OkStatus();
  if (!rope->is_object()) {
    return BadField(key, JsonExcerpt(*rope), "must be an object");
  }
  const std::string what = fmt::format("{}: {}", kWhat, key);
  SL_ASSIGN_OR_RETURN(const auto theta, GetNumber(*rope, "rope_theta", what));
  if (theta) config->rope_theta = *theta;
  SL_ASSIGN_OR_RETURN(auto type, GetString(*rope, "rope_type", what));
  if (!type) {
    SL_ASSIGN_OR_RETURN(type, GetString(*rope, "type", what));
  }
  if (type == "default") return absl::OkStatus();
  if (type != "linear") {
    return BadField(fmt::format("{}.type", key),
                    type ? "'" + *type + "'" : "missing",
                    "only 'linear' is supported");
  }
  SL_ASSIGN_OR_RETURN(const auto factor, GetNumber(*rope, "factor", what));
  if (!factor || !(*factor >= 1) || !(*factor <= kMaxRopeFactor)) {
    return BadField(fmt::format("{}.factor", key),
                    factor ? fmt::format("{}", *factor) : "missing",
                    fmt::format("must be in [1, {}]", kMaxRopeFactor));
  }
  config->rope_factor = *factor;
  return absl::OkStatus();
}

absl::Status ParseNumbers(const json& object, LlamaConfig* config) {
  SL_ASSIGN_OR_RETURN(const auto eps, GetNumber(object, "rms_norm_eps", kWhat));
  // 1e-6 is what the format's own default is.
  config->rms_norm_eps = eps.value_or(1e-6);
  SL_ASSIGN_OR_RETURN(const auto theta, GetNumber(object, "rope_theta", kWhat));
  config->rope_theta = theta.value_or(10000.0);
  SL_RETURN_IF_ERROR(ParseRope(object, "rope_scaling", config));
  SL_RETURN_IF_ERROR(ParseRope(object, "rope_parameters", config));
  if (!(config->rms_norm_eps > 0 && config->rms_norm_eps < 1)) {
    return BadField("rms_norm_eps", fmt::format("{}", config->rms_norm_eps),
                    "must be in (0, 1)");
  }
  if (!(config->rope_theta > 1)) {
    return BadField("rope_theta", fmt::format("{}", config->rope_theta),
                    "must be over 1");
  }
  return absl::OkStatus();
}

absl::Status ParseSizes(const json& object, LlamaConfig* config) {
  SL_ASSIGN_OR_RETURN(config->num_layers,
                      RequiredSize(object, "num_hidden_layers"));
  SL_ASSIGN_OR_RETURN(config->hidden_size, RequiredSize(object, "hidden_size"));
  SL_ASSIGN_OR_RETURN(config->intermediate_size,
                      RequiredSize(object, "intermediate_size"));
  SL_ASSIGN_OR_RETURN(config->num_heads,
                      RequiredSize(object, "num_attention_heads"));
  SL_ASSIGN_OR_RETURN(config->vocab_size, RequiredSize(object, "vocab_size"));
  SL_ASSIGN_OR_RETURN(config->max_position_embeddings,
                      RequiredSize(object, "max_position_embeddings"));
  SL_ASSIGN_OR_RETURN(const auto kv_heads, GetInt(object, "num_key_value_heads",
                                                  1, kMaxSize, kWhat));
  config->num_kv_heads = kv_heads.value_or(config->num_heads);
  if (config->num_heads % config->num_kv_heads != 0) {
    return BadField("num_attention_heads", fmt::format("{}", config->num_heads),
                    fmt::format("must be a multiple of num_key_value_heads {}",
                                config->num_kv_heads));
  }
  SL_ASSIGN_OR_RETURN(const auto head_dim,
                      GetInt(object, "head_dim", 1, kMaxSize, kWhat));
  if (!head_dim && config->hidden_size % config->num_heads != 0) {
    return BadField("hidden_size", fmt::format("{}", config->hidden_size),
                    fmt::format("must be a multiple of num_attention_heads {}",
                                config->num_heads));
  }
  config->head_dim = head_dim.value_or(config->hidden_size / config->num_heads);
  constexpr int64_t kMaxHeadDim = 256;
  if (config->head_dim % 8 != 0 || config->head_dim > kMaxHeadDim) {
    return BadField(
        "head_dim", fmt::format("{}", config->head_dim),
        fmt::format("must be a multiple of 8 up to {}", kMaxHeadDim));
  }
  return absl::OkStatus();
}

// In double, so that absurd sizes do not overflow before they are refused.
double ApproximateParameters(const LlamaConfig& c) {
  const double hidden = static_cast<double>(c.hidden_size);
  const double heads = static_cast<double>(c.num_heads + c.num_kv_heads);
  const double layer =
      hidden * (2.0 * heads * static_cast<double>(c.head_dim) +
                3.0 * static_cast<double>(c.intermediate_size) + 2.0);
  return static_cast<double>(c.num_layers) * layer +
         2.0 * hidden * static_cast<double>(c.vocab_size);
}

absl::StatusOr<std::optional<int32_t>> ParseTokenId(const json& object,
                                                    const char* key,
                                                    int64_t vocab_size) {
  const json* field = FindField(object, key);
  json first = json::object();
  // A list names several ends; the first is the one that is written.
  if (field != nullptr && field->is_array() && !field->empty()) {
    first[key] = field->front();
  } else if (field != nullptr) {
    first[key] = *field;
  }
  SL_ASSIGN_OR_RETURN(const auto id,
                      GetInt(first, key, 0, vocab_size - 1, kWhat));
  if (!id) return std::optional<int32_t>();
  return std::optional<int32_t>(static_cast<int32_t>(*id));
}

}  // namespace

int64_t LlamaConfig::context_tokens() const {
  return static_cast<int64_t>(
      std::floor(static_cast<double>(max_position_embeddings) * rope_factor));
}

int64_t LlamaConfig::parameter_count() const {
  const int64_t attention =
      2 * hidden_size * (num_heads + num_kv_heads) * head_dim;
  const int64_t mlp = 3 * hidden_size * intermediate_size;
  const int64_t embeddings =
      (tie_word_embeddings ? 1 : 2) * vocab_size * hidden_size;
  return num_layers * (attention + mlp + 2 * hidden_size) + hidden_size +
         embeddings;
}

absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view text) {
  SL_ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, kWhat));
  LlamaConfig config;
  SL_RETURN_IF_ERROR(CheckArchitecture(object));
  SL_RETURN_IF_ERROR(ParseSizes(object, &config));
  SL_RETURN_IF_ERROR(ParseNumbers(object, &config));
  constexpr double kMaxParameters = 1e15;
  if (ApproximateParameters(config) > kMaxParameters) {
    return absl::InvalidArgumentError(
        fmt::format("{}: the sizes make {:.3g} parameters, the limit is {:.0e}",
                    kWhat, ApproximateParameters(config), kMaxParameters));
  }
  SL_ASSIGN_OR_RETURN(const auto tied,
                      GetBool(object, "tie_word_embeddings", kWhat));
  config.tie_word_embeddings = tied.value_or(false);
  SL_ASSIGN_OR_RETURN(config.bos_token_id,
                      ParseTokenId(object, "bos_token_id", config.vocab_size));
  SL_ASSIGN_OR_RETURN(config.eos_token_id,
                      ParseTokenId(object, "eos_token_id", config.vocab_size));
  return config;
}

absl::StatusOr<std::string> WithRopeFactor(std::string_view text,
                                           double factor) {
  if (!(factor >= 1 && factor <= kMaxRopeFactor)) {
    return absl::InvalidArgumentError(fmt::format(
        "rope factor is {}, must be in [1, {}]", factor, kMaxRopeFactor));
  }
  // Checks it; the ordered form then keeps the order of its keys.
  SL_RETURN_IF_ERROR(ParseLlamaConfig(text).status());
  ordered_json config =
      ordered_json::parse(text.begin(), text.end(), nullptr, false);
  ordered_json scaling = nullptr;
  if (factor != 1) {
    scaling = {{"rope_type", "linear"}, {"type", "linear"}, {"factor", factor}};
  }
  const auto parameters = config.find("rope_parameters");
  if (parameters != config.end() && parameters->is_object()) {
    // This form holds the base of the rotation as well, which stays.
    (*parameters)["rope_type"] = factor != 1 ? "linear" : "default";
    parameters->erase("type");
    parameters->erase("factor");
    if (factor != 1) (*parameters)["factor"] = factor;
    config.erase("rope_scaling");
  } else if (scaling.is_null()) {
    config.erase("rope_scaling");
  } else {
    config["rope_scaling"] = scaling;
  }
  config["torch_dtype"] = "bfloat16";
  return config.dump(2) + "\n";
}

std::string ToJson(const LlamaConfig& config) {
  ordered_json out;
  out["architectures"] = ordered_json::array({"LlamaForCausalLM"});
  out["attention_bias"] = false;
  if (config.bos_token_id) out["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_id) out["eos_token_id"] = *config.eos_token_id;
  out["head_dim"] = config.head_dim;
  out["hidden_act"] = "silu";
  out["hidden_size"] = config.hidden_size;
  out["intermediate_size"] = config.intermediate_size;
  out["max_position_embeddings"] = config.max_position_embeddings;
  out["mlp_bias"] = false;
  out["model_type"] = config.model_type;
  out["num_attention_heads"] = config.num_heads;
  out["num_hidden_layers"] = config.num_layers;
  out["num_key_value_heads"] = config.num_kv_heads;
  out["rms_norm_eps"] = config.rms_norm_eps;
  if (config.rope_factor != 1) {
    out["rope_scaling"] = {{"rope_type", "linear"},
                           {"type", "linear"},
                           {"factor", config.rope_factor}};
  }
  out["rope_theta"] = config.rope_theta;
  out["tie_word_embeddings"] = config.tie_word_embeddings;
  out["torch_dtype"] = "bfloat16";
  out["vocab_size"] = config.vocab_size;
  return out.dump(2) + "\n";
}

}  // namespace sinklora
