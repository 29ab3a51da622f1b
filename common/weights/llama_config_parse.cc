// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "common/base/status.h"
#include "common/text/json.h"
#include "common/weights/llama_config.h"
#include "common/weights/llama_family.h"
#include "common/weights/rope_scaling_json.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

constexpr char kWhat[] = "config.json";
constexpr int64_t kMaxSize = (int64_t{1} << 31) - 1;

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

absl::Status ParseNumbers(const json& object, LlamaConfig* config) {
  SL_ASSIGN_OR_RETURN(const auto eps, GetNumber(object, "rms_norm_eps", kWhat));
  // 1e-6 is what the format's own default is.
  config->rms_norm_eps = eps.value_or(1e-6);
  if (!(config->rms_norm_eps > 0 && config->rms_norm_eps < 1)) {
    return BadField("rms_norm_eps", fmt::format("{}", config->rms_norm_eps),
                    "must be in (0, 1)");
  }
  return ParseRope(object, config);
}

absl::Status ParseHeadDim(const json& object, LlamaConfig* config) {
  constexpr int64_t kQwen3HeadDim = 128;  // whatever the other sizes are
  constexpr int64_t kMaxHeadDim = 256;
  SL_ASSIGN_OR_RETURN(const auto head_dim,
                      GetInt(object, "head_dim", 1, kMaxSize, kWhat));
  if (head_dim) {
    config->head_dim = *head_dim;
  } else if (config->model_type == "qwen3") {
    config->head_dim = kQwen3HeadDim;
  } else if (config->hidden_size % config->num_heads != 0) {
    return BadField("hidden_size", fmt::format("{}", config->hidden_size),
                    fmt::format("must be a multiple of num_attention_heads {}",
                                config->num_heads));
  } else {
    config->head_dim = config->hidden_size / config->num_heads;
  }
  if (config->head_dim % 8 != 0 || config->head_dim > kMaxHeadDim) {
    return BadField(
        "head_dim", fmt::format("{}", config->head_dim),
        fmt::format("must be a multiple of 8 up to {}", kMaxHeadDim));
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
  // Each of the other architectures has a default of its own, which no config
  // relies on.
  if (!kv_heads && config->model_type != "llama") {
    return RequiredSize(object, "num_key_value_heads").status();
  }
  config->num_kv_heads = kv_heads.value_or(config->num_heads);
  if (config->num_heads % config->num_kv_heads != 0) {
    return BadField("num_attention_heads", fmt::format("{}", config->num_heads),
                    fmt::format("must be a multiple of num_key_value_heads {}",
                                config->num_kv_heads));
  }
  return ParseHeadDim(object, config);
}

// In double, so that absurd sizes do not overflow before they are refused.
// Biases and norms are too small to count.
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

absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view text) {
  SL_ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, kWhat));
  LlamaConfig config;
  SL_RETURN_IF_ERROR(ParseArchitecture(object, &config));
  SL_RETURN_IF_ERROR(ParseSizes(object, &config));
  constexpr double kMaxParameters = 1e15;
  if (ApproximateParameters(config) > kMaxParameters) {
    return absl::InvalidArgumentError(
        fmt::format("{}: the sizes make {:.3g} parameters, the limit is {:.0e}",
                    kWhat, ApproximateParameters(config), kMaxParameters));
  }
  SL_RETURN_IF_ERROR(ParseFamilyKeys(object, &config));
  SL_RETURN_IF_ERROR(ParseNumbers(object, &config));
  SL_ASSIGN_OR_RETURN(const auto tied,
                      GetBool(object, "tie_word_embeddings", kWhat));
  config.tie_word_embeddings = tied.value_or(false);
  SL_ASSIGN_OR_RETURN(config.bos_token_id,
                      ParseTokenId(object, "bos_token_id", config.vocab_size));
  SL_ASSIGN_OR_RETURN(config.eos_token_id,
                      ParseTokenId(object, "eos_token_id", config.vocab_size));
  return config;
}

}  // namespace sinklora
