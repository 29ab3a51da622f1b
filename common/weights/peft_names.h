// How PEFT names things: modules that LoRA can target, modules that are saved
// whole, tensors in adapter_model.safetensors.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_PEFT_NAMES_H_
#define SINKLORA_COMMON_WEIGHTS_PEFT_NAMES_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/weights/llama_config.h"
#include "common/weights/peft_config.h"

namespace sinklora {

inline constexpr char kAdapterConfigFile[] = "adapter_config.json";
inline constexpr char kAdapterModelFile[] = "adapter_model.safetensors";
// LongLoRA's file of fully tuned tensors.
inline constexpr char kTrainableParamsFile[] = "trainable_params.safetensors";

// q_proj ... down_proj.
const std::vector<std::string>& LoraTargetModules();

// "model.norm" of "model.norm.weight" (also of a bias).
std::string ModuleOfTensor(const std::string& tensor);

// Names in adapter_model.safetensors. `module` is a key of PeftAdapter::lora_a,
// `tensor` one of PeftAdapter::full.
std::string LoraAName(const std::string& module);
std::string LoraBName(const std::string& module);
std::string LoraMagnitudeName(const std::string& module);
std::string FullName(const std::string& tensor);

// Shapes of the base by tensor name; lm_head.weight is there for a tied base,
// too.
std::map<std::string, std::vector<int64_t>> BaseShapes(const LlamaConfig& base);

// What a configuration names in a base.
struct PeftTargets {
  std::map<std::string, int64_t> lora;  // module -> rank
  std::set<std::string> full;           // tensors of modules_to_save
};
// kInvalidArgument naming the key, when it selects something that LoRA cannot
// be applied to here (embedding, head, norms, whole blocks), nothing at all, or
// a module both for LoRA and as a whole.
absl::StatusOr<PeftTargets> ResolveTargets(const PeftConfig& config,
                                           const LlamaConfig& base);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_PEFT_NAMES_H_
