// SPDX-License-Identifier: Apache-2.0
#include "common/weights/llama_family.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/text/json.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr char kWhat[] = "config.json";
constexpr int64_t kMaxSize = (int64_t{1} << 31) - 1;
constexpr int64_t kDefaultWindow = 4096;
constexpr int64_t kDefaultMaxWindowLayers = 28;
constexpr char kSliding[] = "sliding_attention";
constexpr char kFull[] = "full_attention";

struct Family {
  const char* model_type;
  const char* architecture;
};
constexpr Family kFamilies[] = {{"llama", "LlamaForCausalLM"},
                                {"mistral", "MistralForCausalLM"},
                                {"qwen2", "Qwen2ForCausalLM"},
                                {"qwen3", "Qwen3ForCausalLM"}};

// Keys that mean another computation unless they have the harmless value (JSON)
// or are null.
struct RefusedKey {
  const char* key;
  const char* harmless;  // "" : none
  const char* reason;
};
constexpr char kExperts[] = "mixture-of-experts models are not supported";
constexpr char kSoftCap[] = "soft caps are not supported";
constexpr char kMultiplier[] = "scaled residuals or logits are not supported";
constexpr char kNoRope[] = "layers without RoPE are not supported";
constexpr RefusedKey kRefused[] = {
    {"quantization_config", "", "quantized models are not supported"},
    {"compression_config", "", "quantized models are not supported"},
    {"auto_map", "", "a model with code of its own is not supported"},
    {"partial_rotary_factor", "1", "only 1 is supported"},
    {"rotary_pct", "1", "only 1 is supported"},
    {"rope_interleave", "false", "only half-split RoPE is supported"},
    {"rope_interleaved", "false", "only half-split RoPE is supported"},
    {"alibi", "false", "only RoPE is supported"},
    {"no_rope_layers", "", kNoRope},
    {"no_rope_layer_interval", "", kNoRope},
    {"num_experts", "0", kExperts},
    {"num_local_experts", "0", kExperts},
    {"n_routed_experts", "0", kExperts},
    {"num_experts_per_tok", "0", kExperts},
    {"moe_intermediate_size", "0", kExperts},
    {"attn_logit_softcapping", "", kSoftCap},
    {"final_logit_softcapping", "", kSoftCap},
    {"query_pre_attn_scalar", "", "only 1/sqrt(head_dim) is supported"},
    {"attention_multiplier", "", "only 1/sqrt(head_dim) is supported"},
    {"embedding_multiplier", "1", kMultiplier},
    {"residual_multiplier", "1", kMultiplier},
    {"logits_scaling", "1", kMultiplier},
    {"logit_scale", "1", kMultiplier},
    {"scale_emb", "1", kMultiplier},
    {"scale_depth", "1", kMultiplier},
    {"clip_qkv", "", "clipped projections are not supported"},
    {"use_qk_norm", "false", "only model_type 'qwen3' has q/k norms"},
    {"qk_norm", "false", "only model_type 'qwen3' has q/k norms"},
    {"qk_layernorm", "false", "only model_type 'qwen3' has q/k norms"},
    {"bias", "false", "attention_bias and mlp_bias are the supported keys"},
    {"use_parallel_residual", "false", "parallel residuals are not supported"},
    {"parallel_attn", "false", "parallel residuals are not supported"},
    {"attention_chunk_size", "", "chunked attention is not supported"},
    {"kv_lora_rank", "", "latent attention is not supported"},
    {"num_nextn_predict_layers", "0", "extra heads are not supported"},
    {"cross_attention_layers", "", "only text models are supported"},
    {"vision_config", "", "only text models are supported"},
    {"text_config", "", "only text models are supported"},
    {"audio_config", "", "only text models are supported"},
    {"add_cross_attention", "false", "only decoders are supported"},
    {"is_encoder_decoder", "false", "only decoders are supported"},
};

absl::Status Bad(const std::string& field, const std::string& value,
                 const std::string& expected) {
  return absl::InvalidArgumentError(
      fmt::format("{}: {} is {}, {}", kWhat, field, value, expected));
}

const Family* FindFamily(const std::string& model_type) {
  const auto* it =
      std::find_if(std::begin(kFamilies), std::end(kFamilies),
                   [&](const Family& f) { return model_type == f.model_type; });
  return it == std::end(kFamilies) ? nullptr : it;
}

absl::Status CheckRefusedKeys(const json& object) {
  for (const RefusedKey& r : kRefused) {
    const json* value = FindField(object, r.key);
    if (value == nullptr) continue;
    // A discarded value, of "", equals nothing.
    if (*value == json::parse(r.harmless, nullptr, false)) continue;
    return Bad(r.key, JsonExcerpt(*value), r.reason);
  }
  return absl::OkStatus();
}

// Biases that a key may turn on, and those that come with the architecture.
absl::Status ParseBiases(const json& object, LlamaConfig* config) {
  const std::string& type = config->model_type;
  SL_ASSIGN_OR_RETURN(const auto attention,
                      GetBool(object, "attention_bias", kWhat));
  SL_ASSIGN_OR_RETURN(const auto mlp, GetBool(object, "mlp_bias", kWhat));
  const bool attention_key = type == "llama" || type == "qwen3";
  if (attention && !attention_key && *attention != (type == "qwen2")) {
    return Bad("attention_bias", *attention ? "true" : "false",
               fmt::format("model_type '{}' is defined {}", type,
                           type == "qwen2" ? "with it" : "without it"));
  }
  if (mlp.value_or(false) && type != "llama") {
    return Bad("mlp_bias", "true",
               fmt::format("model_type '{}' is defined without it", type));
  }
  config->qkv_bias =
      type == "qwen2" || (attention_key && attention.value_or(false));
  config->o_bias = attention_key && attention.value_or(false);
  config->mlp_bias = mlp.value_or(false);
  return absl::OkStatus();
}

// The first sliding layer of layer_types: full layers, then sliding ones.
absl::StatusOr<int64_t> FirstSliding(const json& types, int64_t num_layers) {
  if (!types.is_array() || static_cast<int64_t>(types.size()) != num_layers) {
    return Bad(
        "layer_types", JsonExcerpt(types),
        fmt::format("must list num_hidden_layers {} layers", num_layers));
  }
  int64_t first = num_layers;
  for (int64_t i = 0; i < num_layers; ++i) {
    const json& type = types[static_cast<size_t>(i)];
    if (type == kSliding) {
      first = std::min(first, i);
    } else if (type != kFull || first < num_layers) {
      return Bad(fmt::format("layer_types[{}]", i), JsonExcerpt(type),
                 fmt::format("must be '{}' in the first layers and '{}' in "
                             "the rest",
                             kFull, kSliding));
    }
  }
  return first;
}

// Where Mistral slides: in every layer, from an absent key on.
absl::Status ParseMistralWindow(const json& object, LlamaConfig* config) {
  SL_ASSIGN_OR_RETURN(const auto window,
                      GetInt(object, "sliding_window", 1, kMaxSize, kWhat));
  const bool absent = !object.contains("sliding_window");
  config->sliding_window = window.value_or(absent ? kDefaultWindow : 0);
  return absl::OkStatus();
}

absl::Status ParseQwenWindow(const json& object, LlamaConfig* config) {
  SL_ASSIGN_OR_RETURN(const auto use,
                      GetBool(object, "use_sliding_window", kWhat));
  SL_ASSIGN_OR_RETURN(const auto window,
                      GetInt(object, "sliding_window", 1, kMaxSize, kWhat));
  SL_ASSIGN_OR_RETURN(const auto from,
                      GetInt(object, "max_window_layers", 0, kMaxSize, kWhat));
  if (!use.value_or(false)) return absl::OkStatus();
  const bool absent = !object.contains("sliding_window");
  config->sliding_window = window.value_or(absent ? kDefaultWindow : 0);
  config->first_sliding_layer = from.value_or(kDefaultMaxWindowLayers);
  return absl::OkStatus();
}

absl::Status ParseWindow(const json& object, LlamaConfig* config) {
  const std::string& type = config->model_type;
  if (type == "llama") {
    for (const char* key : {"sliding_window", "use_sliding_window"}) {
      const json* value = FindField(object, key);
      if (value == nullptr || *value == false) continue;
      return Bad(key, JsonExcerpt(*value),
                 "model_type 'llama' is defined without it");
    }
  } else if (type == "mistral") {
    SL_RETURN_IF_ERROR(ParseMistralWindow(object, config));
  } else {
    SL_RETURN_IF_ERROR(ParseQwenWindow(object, config));
  }
  if (const json* types = FindField(object, "layer_types")) {
    SL_ASSIGN_OR_RETURN(const int64_t first,
                        FirstSliding(*types, config->num_layers));
    const bool qwen = type == "qwen2" || type == "qwen3";
    if (qwen && config->sliding_window > 0) config->first_sliding_layer = first;
    const int64_t wanted = config->sliding_window > 0
                               ? config->first_sliding_layer
                               : config->num_layers;
    if (first != wanted) {
      return Bad("layer_types", JsonExcerpt(*types),
                 fmt::format("but the other keys make the layers from {} on "
                             "slide: they must agree",
                             wanted));
    }
  }
  if (config->sliding_window == 0 ||
      config->first_sliding_layer >= config->num_layers) {
    config->sliding_window = config->first_sliding_layer = 0;
  }
  return absl::OkStatus();
}

}  // namespace

std::string ArchitectureOf(const std::string& model_type) {
  return FindFamily(model_type)->architecture;
}

absl::Status ParseArchitecture(const json& object, LlamaConfig* config) {
  SL_ASSIGN_OR_RETURN(const auto type, GetString(object, "model_type", kWhat));
  const Family* family = type ? FindFamily(*type) : nullptr;
  if (family == nullptr) {
    return Bad("model_type", type ? "'" + *type + "'" : "missing",
               "must be 'llama', 'mistral', 'qwen2' or 'qwen3'");
  }
  config->model_type = *type;
  if (const json* list = FindField(object, "architectures")) {
    if (*list != json::array({family->architecture})) {
      return Bad("architectures", JsonExcerpt(*list),
                 fmt::format("only {} is supported for model_type '{}'",
                             family->architecture, *type));
    }
  }
  SL_ASSIGN_OR_RETURN(const auto activation,
                      GetString(object, "hidden_act", kWhat));
  if (activation.value_or("silu") != "silu") {
    return Bad("hidden_act", "'" + *activation + "'",
               "only 'silu' is supported");
  }
  return CheckRefusedKeys(object);
}

absl::Status ParseFamilyKeys(const json& object, LlamaConfig* config) {
  SL_RETURN_IF_ERROR(ParseBiases(object, config));
  config->qk_norm = config->model_type == "qwen3";
  return ParseWindow(object, config);
}

void WriteFamilyKeys(const LlamaConfig& config, ordered_json* object) {
  const std::string& type = config.model_type;
  if (type == "llama" || type == "qwen3") {
    (*object)["attention_bias"] = config.qkv_bias;
  }
  if (type == "llama") (*object)["mlp_bias"] = config.mlp_bias;
  const bool slides = config.sliding_window > 0;
  const ordered_json window =
      slides ? ordered_json(config.sliding_window) : ordered_json(nullptr);
  if (type == "mistral") (*object)["sliding_window"] = window;
  if (type == "qwen2" || type == "qwen3") {
    (*object)["use_sliding_window"] = slides;
    (*object)["sliding_window"] = window;
    (*object)["max_window_layers"] =
        slides ? config.first_sliding_layer : config.num_layers;
  }
}

}  // namespace sinklora
