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
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/weights/llama_config.h"
#include "common/weights/peft_adapter.h"

namespace sinklora {

inline constexpr char kAdapterConfigFile[] = "adapter_config.json";
inline constexpr char kAdapterModelFile[] = "adapter_model.safetensors";
// Keys of our own: in adapter_config.json, where PEFT ignores them, and in the
// metadata of the tensors.
inline constexpr char kContextTokensKey[] = "sinklora_context_tokens";
inline constexpr char kRopeFactorKey[] = "sinklora_rope_factor";

// q_proj ... down_proj.
const std::vector<std::string>& LoraTargetModules();
// embed_tokens, the norms, lm_head: what `full` may hold, in the order in which
// modules_to_save lists them.
const std::vector<std::string>& SavedModules();

// "q_proj" of "model.layers.0.self_attn.q_proj[.weight]".
std::string ModuleOf(const std::string& tensor_name);

// Names in adapter_model.safetensors. `module` is a key of PeftAdapter::lora_a,
// `tensor` one of PeftAdapter::full.
std::string LoraAName(const std::string& module);
std::string LoraBName(const std::string& module);
std::string FullName(const std::string& tensor);

// Shapes of the base by tensor name.
std::map<std::string, std::vector<int64_t>> BaseShapes(const LlamaConfig& base);

// Checks names and shapes of `adapter` against its base and itself: every
// target in every layer has A and B, `full` tensors are embedding, norms or
// head, all values are finite. kInvalidArgument names the tensor.
absl::Status CheckAdapter(const PeftAdapter& adapter, const LlamaConfig& base);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_PEFT_NAMES_H_
