// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <deque>
#include <set>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/peft_names.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace sinklora {
namespace {

using nlohmann::json;

// An integer when it is one, as PEFT writes lora_alpha.
json Number(double value) {
  constexpr double kExactIntegers = 1e15;
  const bool whole =
      std::fabs(value) <= kExactIntegers && std::floor(value) == value;
  return whole ? json(static_cast<int64_t>(value)) : json(value);
}

json ModulesToSave(const PeftAdapter& adapter) {
  std::set<std::string> present;
  for (const auto& [name, tensor] : adapter.full) {
    present.insert(ModuleOf(name));
  }
  if (present.empty()) return nullptr;
  json list = json::array();
  for (const std::string& module : SavedModules()) {
    if (present.contains(module)) list.push_back(module);
  }
  return list;
}

std::string ConfigText(const PeftAdapter& adapter) {
  json config = {{"alpha_pattern", json::object()},
                 {"auto_mapping", nullptr},
                 {"base_model_name_or_path", adapter.base_model},
                 {"bias", "none"},
                 {"fan_in_fan_out", false},
                 {"inference_mode", true},
                 {"init_lora_weights", true},
                 {"layer_replication", nullptr},
                 {"layers_pattern", nullptr},
                 {"layers_to_transform", nullptr},
                 {"loftq_config", json::object()},
                 {"lora_alpha", Number(adapter.lora_alpha)},
                 {"lora_dropout", 0.0},
                 {"megatron_config", nullptr},
                 {"megatron_core", "megatron.core"},
                 {"modules_to_save", ModulesToSave(adapter)},
                 {"peft_type", "LORA"},
                 {"r", adapter.rank},
                 {"rank_pattern", json::object()},
                 {"revision", nullptr},
                 {"target_modules", adapter.target_modules},
                 {"task_type", "CAUSAL_LM"},
                 {"use_dora", false},
                 {"use_rslora", false}};
  if (adapter.context_tokens > 0) {
    config[kContextTokensKey] = adapter.context_tokens;
    config[kRopeFactorKey] = Number(adapter.rope_factor);
  }
  return config.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace

absl::Status WritePeftAdapter(const PeftAdapter& adapter,
                              const std::string& directory) {
  std::map<std::string, StoredTensor> tensors;
  std::deque<TensorBytes> storage;
  const auto add = [&](const std::string& name, const HostTensor& tensor) {
    storage.emplace_back(tensor.values.data(), tensor.shape, FileDType::kF32);
    tensors[name] = storage.back().view();
  };
  for (const auto& [module, a] : adapter.lora_a) add(LoraAName(module), a);
  for (const auto& [module, b] : adapter.lora_b) add(LoraBName(module), b);
  for (const auto& [name, full] : adapter.full) add(FullName(name), full);
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (adapter.context_tokens > 0) {
    metadata[kContextTokensKey] = fmt::format("{}", adapter.context_tokens);
    metadata[kRopeFactorKey] = fmt::format("{}", adapter.rope_factor);
  }
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  SL_RETURN_IF_ERROR(WriteSafetensors(JoinPath(directory, kAdapterModelFile),
                                      tensors, metadata));
  return WriteFileAtomic(JoinPath(directory, kAdapterConfigFile),
                         ConfigText(adapter));
}

}  // namespace sinklora
