// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/json.h"
#include "common/weights/file_dtype.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/peft_names.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

absl::Status Unsupported(const std::string& what, const char* key,
                         const json& value) {
  return absl::InvalidArgumentError(
      fmt::format("{}: {} {} is not supported", what, key, JsonExcerpt(value)));
}

// Fields that change the mathematics: absent, null or neutral, or refused.
absl::Status CheckNeutral(const json& config, const std::string& what) {
  for (const char* key : {"use_dora", "use_rslora", "fan_in_fan_out",
                          "lora_bias", "use_qalora"}) {
    SL_ASSIGN_OR_RETURN(const auto value, GetBool(config, key, what));
    if (value.value_or(false)) return Unsupported(what, key, true);
  }
  for (const char* key :
       {"rank_pattern", "alpha_pattern", "layers_to_transform",
        "layer_replication", "trainable_token_indices", "target_parameters",
        "exclude_modules"}) {
    const json* value = FindField(config, key);
    if (value != nullptr && !value->empty()) {
      return Unsupported(what, key, *value);
    }
  }
  SL_ASSIGN_OR_RETURN(const auto type, GetString(config, "peft_type", what));
  if (type != "LORA") {
    return Unsupported(what, "peft_type", type ? json(*type) : json());
  }
  SL_ASSIGN_OR_RETURN(const auto bias, GetString(config, "bias", what));
  if (bias.value_or("none") != "none") return Unsupported(what, "bias", *bias);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> GetStringList(
    const json& config, const char* key, const std::string& what) {
  std::vector<std::string> list;
  const json* value = FindField(config, key);
  if (value == nullptr) return list;
  // A lone string is a regular expression in PEFT.
  bool ok = value->is_array();
  for (size_t i = 0; ok && i < value->size(); ++i) {
    ok = (*value)[i].is_string();
    if (ok) list.push_back((*value)[i].get<std::string>());
  }
  if (!ok) return Unsupported(what, key, *value);
  return list;
}

absl::StatusOr<PeftAdapter> ParseConfig(const std::string& path) {
  SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  SL_ASSIGN_OR_RETURN(const json config, ParseJsonObject(text, path));
  SL_RETURN_IF_ERROR(CheckNeutral(config, path));
  PeftAdapter adapter;
  SL_ASSIGN_OR_RETURN(const auto base,
                      GetString(config, "base_model_name_or_path", path));
  adapter.base_model = base.value_or("");
  // What is absent has PEFT's defaults.
  SL_ASSIGN_OR_RETURN(const auto rank, GetInt(config, "r", 1, 65536, path));
  adapter.rank = rank.value_or(8);
  SL_ASSIGN_OR_RETURN(const auto alpha, GetNumber(config, "lora_alpha", path));
  adapter.lora_alpha = alpha.value_or(8);
  SL_ASSIGN_OR_RETURN(adapter.target_modules,
                      GetStringList(config, "target_modules", path));
  SL_ASSIGN_OR_RETURN(const auto saved,
                      GetStringList(config, "modules_to_save", path));
  const std::set<std::string> known(SavedModules().begin(),
                                    SavedModules().end());
  for (const std::string& module : saved) {
    if (!known.contains(module)) {
      return Unsupported(path, "modules_to_save", module);
    }
  }
  SL_ASSIGN_OR_RETURN(const auto context,
                      GetInt(config, kContextTokensKey, 0, INT64_MAX, path));
  adapter.context_tokens = context.value_or(0);
  SL_ASSIGN_OR_RETURN(const auto rope, GetNumber(config, kRopeFactorKey, path));
  adapter.rope_factor = rope.value_or(1.0);
  return adapter;
}

// Context and factor of the tensors' metadata, for a file that lost its
// configuration's extra keys; where both speak they must agree.
absl::Status ApplyMetadata(const std::map<std::string, std::string>& metadata,
                           const std::string& path, PeftAdapter* adapter) {
  const auto context = metadata.find(kContextTokensKey);
  const auto rope = metadata.find(kRopeFactorKey);
  if (context == metadata.end() || rope == metadata.end()) {
    return absl::OkStatus();
  }
  int64_t context_tokens = 0;
  double rope_factor = 0;
  if (!absl::SimpleAtoi(context->second, &context_tokens) ||
      !absl::SimpleAtod(rope->second, &rope_factor) || context_tokens < 0) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: metadata {} '{}' or {} '{}' is not a number", path,
        kContextTokensKey, context->second, kRopeFactorKey, rope->second));
  }
  if (adapter->context_tokens == 0) {
    adapter->context_tokens = context_tokens;
    adapter->rope_factor = rope_factor;
  }
  if (adapter->context_tokens != context_tokens ||
      adapter->rope_factor != rope_factor) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: context {} and rope factor {} differ from {} and {} of {}", path,
        context_tokens, rope_factor, adapter->context_tokens,
        adapter->rope_factor, kAdapterConfigFile));
  }
  return absl::OkStatus();
}

absl::StatusOr<HostTensor> ToHost(const StoredTensor& tensor,
                                  const std::string& what) {
  auto values = ToF32(tensor);
  if (!values.ok()) return Annotate(values.status(), what);
  return HostTensor{tensor.shape, *std::move(values)};
}

absl::Status ReadTensors(const SafetensorsFile& file, const std::string& path,
                         const LlamaConfig& base, PeftAdapter* adapter) {
  struct Place {
    std::map<std::string, HostTensor>* half;
    std::string key;
  };
  std::map<std::string, Place> places;
  for (const auto& [name, shape] : BaseShapes(base)) {
    const std::string module = name.substr(0, name.size() - 7);  // ".weight"
    places[LoraAName(module)] = {&adapter->lora_a, module};
    places[LoraBName(module)] = {&adapter->lora_b, module};
    places[FullName(name)] = {&adapter->full, name};
  }
  for (const auto& [name, stored] : file.tensors()) {
    const auto place = places.find(name);
    if (place == places.end()) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: tensor '{}' is not supported or not of the base", path, name));
    }
    SL_ASSIGN_OR_RETURN(
        (*place->second.half)[place->second.key],
        ToHost(stored, fmt::format("{}: tensor '{}'", path, name)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PeftAdapter> ReadPeftAdapter(const std::string& directory,
                                            const LlamaConfig& base) {
  SL_ASSIGN_OR_RETURN(PeftAdapter adapter,
                      ParseConfig(JoinPath(directory, kAdapterConfigFile)));
  const std::string path = JoinPath(directory, kAdapterModelFile);
  SL_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path));
  SL_RETURN_IF_ERROR(ApplyMetadata(file->metadata(), path, &adapter));
  SL_RETURN_IF_ERROR(ReadTensors(*file, path, base, &adapter));
  const absl::Status checked = CheckAdapter(adapter, base);
  if (!checked.ok()) return Annotate(checked, directory);
  return adapter;
}

}  // namespace sinklora
