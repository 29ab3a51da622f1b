// SPDX-License-Identifier: Apache-2.0
#include "common/weights/peft_config.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "common/base/status.h"
#include "common/text/json.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kMaxRank = 65536;
constexpr size_t kMaxEntries = 4096;  // of a list or pattern
// Of all lists of expressions together, those that are more than a name: only
// they can take long to match, and each is tried on every module.
constexpr int64_t kMaxExpressions = 256;

// Keys that ParsePeftConfig turns into fields.
const std::set<std::string>& FieldKeys() {
  static const auto& keys =
      *new std::set<std::string>{"alpha_pattern",
                                 "base_model_name_or_path",
                                 "ensure_weight_tying",
                                 "exclude_modules",
                                 "layers_pattern",
                                 "layers_to_transform",
                                 "lora_alpha",
                                 "modules_to_save",
                                 "peft_type",
                                 "r",
                                 "rank_pattern",
                                 "target_modules",
                                 "use_dora",
                                 "use_rslora",
                                 kContextTokensKey,
                                 kRopeFactorKey};
  return keys;
}

// Keys that change nothing once an adapter is trained, whatever they hold.
const std::set<std::string>& InertKeys() {
  static const auto& keys =
      *new std::set<std::string>{"auto_mapping",      "bias",
                                 "corda_config",      "eva_config",
                                 "inference_mode",    "init_lora_weights",
                                 "lora_dropout",      "lora_ga_config",
                                 "megatron_core",     "peft_version",
                                 "qalora_group_size", "revision",
                                 "runtime_config",    "task_type"};
  return keys;
}

absl::Status Unsupported(const std::string& what, const std::string& key,
                         const json& value, const std::string& allowed) {
  return absl::InvalidArgumentError(
      fmt::format("{}: {} {} is not supported, {}", what, key,
                  JsonExcerpt(value), allowed));
}

// True, or a list or object that is not empty: switches something on.
bool IsActive(const json& value) {
  if (value.is_boolean()) return value.get<bool>();
  return value.is_structured() && !value.empty();
}

absl::Status CheckString(const json& config, const char* key,
                         const std::set<std::string>& allowed, bool required,
                         const std::string& what) {
  SL_ASSIGN_OR_RETURN(const auto value, GetString(config, key, what));
  if (!value && !required) return absl::OkStatus();
  if (value && allowed.contains(*value)) return absl::OkStatus();
  return Unsupported(what, key, value ? json(*value) : json(),
                     fmt::format("only {}", *allowed.begin()));
}

// PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ change the base's weights before
// training, so that their adapters do not fit the base as it was.
absl::Status CheckInit(const json& config, const std::string& what) {
  const json* value = FindField(config, "init_lora_weights");
  if (value == nullptr || value->is_boolean()) return absl::OkStatus();
  static const auto& harmless =
      *new std::set<std::string>{"gaussian", "eva", "orthogonal"};
  if (value->is_string() && harmless.contains(value->get<std::string>())) {
    return absl::OkStatus();
  }
  return Unsupported(
      what, "init_lora_weights", *value,
      "only true, false, gaussian, eva and orthogonal leave the base's weights "
      "as they were; PEFT turns the others into plain LoRA with "
      "save_pretrained(path_initial_model_for_weight_conversion=...)");
}

absl::Status CheckOthers(const json& config, const std::string& what) {
  SL_RETURN_IF_ERROR(CheckString(config, "peft_type", {"LORA"}, true, what));
  SL_RETURN_IF_ERROR(
      CheckString(config, "task_type", {"CAUSAL_LM"}, false, what));
  SL_RETURN_IF_ERROR(CheckString(config, "bias", {"none"}, false, what));
  SL_RETURN_IF_ERROR(CheckInit(config, what));
  for (auto it = config.begin(); it != config.end(); ++it) {
    const std::string& key = it.key();
    if (FieldKeys().contains(key) || InertKeys().contains(key)) continue;
    // PEFT ignores a filled loftq_config without init_lora_weights "loftq",
    // which CheckInit refuses.
    if (key == "loftq_config" || !IsActive(*it)) continue;
    return Unsupported(what, key, *it, "it must be absent, null or false");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ParseNames(const json& list,
                                                    const char* key,
                                                    const std::string& what) {
  std::vector<std::string> names;
  bool ok = list.is_array() && list.size() <= kMaxEntries;
  for (size_t i = 0; ok && i < list.size(); ++i) {
    ok = list[i].is_string() && !list[i].get_ref<const std::string&>().empty();
    if (ok) names.push_back(list[i].get<std::string>());
  }
  if (ok) return names;
  return Unsupported(
      what, key, list,
      fmt::format("must be a list of at most {} names", kMaxEntries));
}

absl::StatusOr<PeftModules> ParseModules(const json& config, const char* key,
                                         const std::string& what) {
  PeftModules out;
  const json* value = FindField(config, key);
  if (value == nullptr) return out;
  if (value->is_string()) {
    out.regex = value->get<std::string>();
    return out;
  }
  SL_ASSIGN_OR_RETURN(out.names, ParseNames(*value, key, what));
  return out;
}

absl::Status ParseLayers(const json& config, const std::string& what,
                         PeftConfig* out) {
  constexpr int64_t kMaxLayer = 65535;
  json list = json::array();
  if (const json* value = FindField(config, "layers_to_transform")) {
    // One number stands for a list of one.
    list = value->is_array() ? *value : json::array({*value});
  }
  for (const json& item : list) {
    const json wrapped = {{"layers_to_transform", item}};
    SL_ASSIGN_OR_RETURN(const auto layer, GetInt(wrapped, "layers_to_transform",
                                                 0, kMaxLayer, what));
    if (!layer) {
      return Unsupported(what, "layers_to_transform", list, "must be numbers");
    }
    out->layers_to_transform.push_back(*layer);
  }
  if (const json* value = FindField(config, "layers_pattern")) {
    const bool one = value->is_string();
    if (!one || !value->get_ref<const std::string&>().empty()) {
      SL_ASSIGN_OR_RETURN(out->layers_pattern,
                          ParseNames(one ? json::array({*value}) : *value,
                                     "layers_pattern", what));
    }
  }
  const bool narrowed =
      !out->layers_to_transform.empty() || !out->layers_pattern.empty();
  if (narrowed && !out->target_modules.regex.empty()) {
    return Unsupported(what, "layers_to_transform", list,
                       "target_modules must be a list with it");
  }
  if (out->layers_to_transform.empty() && !out->layers_pattern.empty()) {
    return Unsupported(what, "layers_pattern", out->layers_pattern,
                       "layers_to_transform must be given with it");
  }
  return absl::OkStatus();
}

// `entry` reads one value. The order of the file decides between patterns, so
// the ordered form is read.
template <typename T, typename Entry>
absl::Status ParsePattern(const ordered_json& config, const char* key,
                          const std::string& what, Entry entry,
                          std::vector<std::pair<std::string, T>>* out) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return absl::OkStatus();
  if (!it->is_object() || it->size() > kMaxEntries) {
    return Unsupported(
        what, key, json(*it),
        fmt::format("must be an object of at most {} entries", kMaxEntries));
  }
  for (auto item = it->begin(); item != it->end(); ++item) {
    const json wrapped = {{key, json(*item)}};
    SL_ASSIGN_OR_RETURN(const auto value, entry(wrapped));
    if (!value) return Unsupported(what, key, json(*it), "has a null");
    out->push_back({item.key(), *value});
  }
  return absl::OkStatus();
}

absl::Status ParseNumbers(const json& config, const ordered_json& ordered,
                          const std::string& what, PeftConfig* out) {
  SL_ASSIGN_OR_RETURN(const auto rank, GetInt(config, "r", 1, kMaxRank, what));
  out->rank = rank.value_or(out->rank);
  SL_ASSIGN_OR_RETURN(const auto alpha, GetNumber(config, "lora_alpha", what));
  out->lora_alpha = alpha.value_or(out->lora_alpha);
  SL_RETURN_IF_ERROR(ParsePattern(
      ordered, "rank_pattern", what,
      [&](const json& o) {
        return GetInt(o, "rank_pattern", 1, kMaxRank, what);
      },
      &out->rank_pattern));
  SL_RETURN_IF_ERROR(ParsePattern(
      ordered, "alpha_pattern", what,
      [&](const json& o) { return GetNumber(o, "alpha_pattern", what); },
      &out->alpha_pattern));
  for (auto [key, field] :
       {std::pair("use_rslora", &out->use_rslora),
        std::pair("use_dora", &out->use_dora),
        std::pair("ensure_weight_tying", &out->ensure_weight_tying)}) {
    SL_ASSIGN_OR_RETURN(const auto value, GetBool(config, key, what));
    *field = value.value_or(false);
  }
  SL_ASSIGN_OR_RETURN(const auto context,
                      GetInt(config, kContextTokensKey, 0, INT64_MAX, what));
  out->context_tokens = context.value_or(0);
  SL_ASSIGN_OR_RETURN(const auto rope, GetNumber(config, kRopeFactorKey, what));
  out->rope_factor = rope.value_or(1.0);
  return absl::OkStatus();
}

// "layers.0.q_proj" or "layers\\.0\\.q_proj".
bool IsPlainName(std::string_view pattern) {
  for (size_t i = 0; i < pattern.size(); ++i) {
    const bool escaped_dot = pattern.substr(i, 2) == "\\.";
    if (escaped_dot) ++i;
    if (!escaped_dot && pattern[i] != '.' && pattern[i] != '_' &&
        !absl::ascii_isalnum(static_cast<unsigned char>(pattern[i]))) {
      return false;
    }
  }
  return true;
}

absl::Status CheckExpressions(const PeftConfig& config,
                              const std::string& what) {
  const auto operators = [](const std::string& pattern) {
    return !IsPlainName(pattern);
  };
  const auto key_operators = [&](const auto& entry) {
    return operators(entry.first);
  };
  const int64_t expressions =
      std::ranges::count_if(config.rank_pattern, key_operators) +
      std::ranges::count_if(config.alpha_pattern, key_operators) +
      std::ranges::count_if(config.layers_pattern, operators) +
      std::ranges::count_if(config.modules_to_save, operators);
  if (expressions <= kMaxExpressions) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{}: {} regular expressions in rank_pattern, alpha_pattern, "
      "layers_pattern and modules_to_save, must be at most {} (plain names do "
      "not count)",
      what, expressions, kMaxExpressions));
}

// The keys that are no fields, as they were.
std::string OtherKeys(const ordered_json& config) {
  ordered_json others = ordered_json::object();
  for (auto it = config.begin(); it != config.end(); ++it) {
    if (!FieldKeys().contains(it.key())) others[it.key()] = *it;
  }
  return others.dump(-1, ' ', false, json::error_handler_t::replace);
}

// An integer when it is one, as PEFT writes lora_alpha.
ordered_json Number(double value) {
  constexpr double kExactIntegers = 1e15;
  const bool whole =
      std::fabs(value) <= kExactIntegers && std::floor(value) == value;
  return whole ? ordered_json(static_cast<int64_t>(value))
               : ordered_json(value);
}

template <typename T>
ordered_json ListOrNull(const std::vector<T>& list) {
  return list.empty() ? ordered_json(nullptr) : ordered_json(list);
}

ordered_json ModulesJson(const PeftModules& modules) {
  return modules.regex.empty() ? ListOrNull(modules.names)
                               : ordered_json(modules.regex);
}

}  // namespace

absl::StatusOr<PeftConfig> ParsePeftConfig(std::string_view text,
                                           const std::string& what) {
  SL_ASSIGN_OR_RETURN(const json config, ParseJsonObject(text, what));
  const ordered_json ordered =
      ordered_json::parse(text.begin(), text.end(), nullptr, false);
  SL_RETURN_IF_ERROR(CheckOthers(config, what));
  PeftConfig out;
  SL_ASSIGN_OR_RETURN(const auto base,
                      GetString(config, "base_model_name_or_path", what));
  out.base_model = base.value_or("");
  SL_RETURN_IF_ERROR(ParseNumbers(config, ordered, what, &out));
  SL_ASSIGN_OR_RETURN(out.target_modules,
                      ParseModules(config, "target_modules", what));
  if (FindField(config, "target_modules") == nullptr) {
    // PEFT's choice for every architecture that we have.
    out.target_modules.names = {"q_proj", "v_proj"};
  }
  if (out.target_modules.empty()) {
    return Unsupported(what, "target_modules", config["target_modules"],
                       "it must name a module");
  }
  SL_ASSIGN_OR_RETURN(out.exclude_modules,
                      ParseModules(config, "exclude_modules", what));
  SL_RETURN_IF_ERROR(ParseLayers(config, what, &out));
  if (const json* saved = FindField(config, "modules_to_save")) {
    SL_ASSIGN_OR_RETURN(out.modules_to_save,
                        ParseNames(*saved, "modules_to_save", what));
  }
  SL_RETURN_IF_ERROR(CheckExpressions(out, what));
  out.other_keys = OtherKeys(ordered);
  return out;
}

std::string ToJson(const PeftConfig& config) {
  std::map<std::string, ordered_json> keys = {
      {"auto_mapping", nullptr},
      {"bias", "none"},
      {"fan_in_fan_out", false},
      {"inference_mode", true},
      {"init_lora_weights", true},
      {"layer_replication", nullptr},
      {"loftq_config", ordered_json::object()},
      {"lora_dropout", 0.0},
      {"megatron_config", nullptr},
      {"megatron_core", "megatron.core"},
      {"revision", nullptr},
      {"task_type", "CAUSAL_LM"}};
  const ordered_json others =
      ordered_json::parse(config.other_keys, nullptr, false);
  if (others.is_object()) {
    for (auto it = others.begin(); it != others.end(); ++it) {
      keys[it.key()] = *it;
    }
  }
  keys["base_model_name_or_path"] = config.base_model;
  // Newer than the others, so only when they say something: old versions of
  // PEFT refuse keys that they do not know.
  if (config.ensure_weight_tying) keys["ensure_weight_tying"] = true;
  if (!config.exclude_modules.empty()) {
    keys["exclude_modules"] = ModulesJson(config.exclude_modules);
  }
  keys["layers_pattern"] = ListOrNull(config.layers_pattern);
  keys["layers_to_transform"] = ListOrNull(config.layers_to_transform);
  keys["lora_alpha"] = Number(config.lora_alpha);
  keys["modules_to_save"] = ListOrNull(config.modules_to_save);
  keys["peft_type"] = "LORA";
  keys["r"] = config.rank;
  keys["target_modules"] = ModulesJson(config.target_modules);
  keys["use_dora"] = config.use_dora;
  keys["use_rslora"] = config.use_rslora;
  ordered_json& ranks = keys["rank_pattern"] = ordered_json::object();
  for (const auto& [key, value] : config.rank_pattern) ranks[key] = value;
  ordered_json& alphas = keys["alpha_pattern"] = ordered_json::object();
  for (const auto& [key, value] : config.alpha_pattern) {
    alphas[key] = Number(value);
  }
  if (config.context_tokens > 0) {
    keys[kContextTokensKey] = config.context_tokens;
    keys[kRopeFactorKey] = Number(config.rope_factor);
  }
  ordered_json out = ordered_json::object();
  for (auto& [key, value] : keys) out[key] = std::move(value);
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace sinklora
