// SPDX-License-Identifier: Apache-2.0
#include "common/weights/peft_names.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "common/base/status.h"
#include "common/weights/file_dtype.h"
#include "common/weights/model_files.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

constexpr char kPrefix[] = "base_model.model.";

bool Contains(const std::vector<std::string>& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

absl::Status CheckValues(const HostTensor& tensor, const std::string& name,
                         const std::vector<int64_t>& shape) {
  if (tensor.shape != shape) {
    return absl::InvalidArgumentError(
        fmt::format("adapter tensor '{}' has shape {}, the base needs {}", name,
                    ShapeToString(tensor.shape), ShapeToString(shape)));
  }
  int64_t elements = 1;
  for (int64_t dim : shape) elements *= dim;
  if (static_cast<int64_t>(tensor.values.size()) != elements) {
    return absl::InvalidArgumentError(
        fmt::format("adapter tensor '{}' has {} values, its shape needs {}",
                    name, tensor.values.size(), elements));
  }
  const auto bad =
      std::find_if(tensor.values.begin(), tensor.values.end(),
                   [](float value) { return !std::isfinite(value); });
  if (bad != tensor.values.end()) {
    return absl::InvalidArgumentError(
        fmt::format("adapter tensor '{}' has value {} at index {}", name, *bad,
                    bad - tensor.values.begin()));
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const PeftAdapter& adapter) {
  constexpr int64_t kMaxRank = 65536;
  if (adapter.rank < 1 || adapter.rank > kMaxRank) {
    return absl::InvalidArgumentError(fmt::format(
        "adapter rank r is {}, must be in [1, {}]", adapter.rank, kMaxRank));
  }
  if (!std::isfinite(adapter.lora_alpha)) {
    return absl::InvalidArgumentError(fmt::format(
        "adapter lora_alpha is {}, must be finite", adapter.lora_alpha));
  }
  if (!(adapter.rope_factor >= 1) || !std::isfinite(adapter.rope_factor)) {
    return absl::InvalidArgumentError(fmt::format(
        "adapter rope factor is {}, must be at least 1", adapter.rope_factor));
  }
  if (adapter.context_tokens < 0) {
    return absl::InvalidArgumentError(
        fmt::format("adapter context is {} tokens, must not be negative",
                    adapter.context_tokens));
  }
  if (adapter.target_modules.empty()) {
    return absl::InvalidArgumentError("adapter target_modules is empty");
  }
  std::set<std::string> seen;
  for (const std::string& target : adapter.target_modules) {
    if (!Contains(LoraTargetModules(), target) || !seen.insert(target).second) {
      return absl::InvalidArgumentError(fmt::format(
          "adapter target_modules has '{}', which is unknown or repeated; "
          "known are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, "
          "down_proj",
          target));
    }
  }
  return absl::OkStatus();
}

// One half of every pair: `expected` shape by module.
absl::Status CheckHalf(
    const std::map<std::string, HostTensor>& half,
    const std::map<std::string, std::vector<int64_t>>& expected,
    std::string (*name_of)(const std::string&)) {
  for (const auto& [module, shape] : expected) {
    const auto it = half.find(module);
    if (it == half.end()) {
      return absl::InvalidArgumentError(
          fmt::format("adapter tensor '{}' is missing", name_of(module)));
    }
    SL_RETURN_IF_ERROR(CheckValues(it->second, name_of(module), shape));
  }
  for (const auto& [module, tensor] : half) {
    if (!expected.contains(module)) {
      return absl::InvalidArgumentError(
          fmt::format("adapter tensor '{}' is not of the base's target_modules",
                      name_of(module)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<std::string>& LoraTargetModules() {
  static const auto& modules = *new std::vector<std::string>{
      "q_proj",    "k_proj",  "v_proj",   "o_proj",
      "gate_proj", "up_proj", "down_proj"};
  return modules;
}

const std::vector<std::string>& SavedModules() {
  static const auto& modules = *new std::vector<std::string>{
      "embed_tokens", "input_layernorm",          "q_norm",
      "k_norm",       "post_attention_layernorm", "norm",
      "lm_head"};
  return modules;
}

std::string ModuleOf(const std::string& tensor_name) {
  std::string name = tensor_name;
  if (name.ends_with(".weight")) name.resize(name.size() - 7);
  return name.substr(name.rfind('.') + 1);
}

std::string LoraAName(const std::string& module) {
  return kPrefix + module + ".lora_A.weight";
}

std::string LoraBName(const std::string& module) {
  return kPrefix + module + ".lora_B.weight";
}

std::string FullName(const std::string& tensor) { return kPrefix + tensor; }

std::map<std::string, std::vector<int64_t>> BaseShapes(
    const LlamaConfig& base) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (auto& [name, shape] : LlamaTensors(base)) shapes[name] = shape;
  return shapes;
}

absl::Status CheckAdapter(const PeftAdapter& adapter, const LlamaConfig& base) {
  SL_RETURN_IF_ERROR(CheckNumbers(adapter));
  const auto shapes = BaseShapes(base);
  std::map<std::string, std::vector<int64_t>> a_shapes, b_shapes;
  for (const auto& [name, shape] : shapes) {
    if (!Contains(adapter.target_modules, ModuleOf(name))) continue;
    const std::string module = name.substr(0, name.size() - 7);  // ".weight"
    a_shapes[module] = {adapter.rank, shape[1]};
    b_shapes[module] = {shape[0], adapter.rank};
  }
  SL_RETURN_IF_ERROR(CheckHalf(adapter.lora_a, a_shapes, LoraAName));
  SL_RETURN_IF_ERROR(CheckHalf(adapter.lora_b, b_shapes, LoraBName));
  for (const auto& [name, tensor] : adapter.full) {
    const auto it = shapes.find(name);
    if (it == shapes.end() || !Contains(SavedModules(), ModuleOf(name))) {
      return absl::InvalidArgumentError(
          fmt::format("adapter tensor '{}' is not an embedding, norm or head "
                      "of the base",
                      FullName(name)));
    }
    SL_RETURN_IF_ERROR(CheckValues(tensor, FullName(name), it->second));
  }
  return absl::OkStatus();
}

}  // namespace sinklora
