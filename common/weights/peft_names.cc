// SPDX-License-Identifier: Apache-2.0
#include "common/weights/peft_names.h"

#include "common/weights/model_files.h"

namespace sinklora {
namespace {

constexpr char kPrefix[] = "base_model.model.";

}  // namespace

const std::vector<std::string>& LoraTargetModules() {
  static const auto& modules = *new std::vector<std::string>{
      "q_proj",    "k_proj",  "v_proj",   "o_proj",
      "gate_proj", "up_proj", "down_proj"};
  return modules;
}

std::string ModuleOfTensor(const std::string& tensor) {
  return tensor.substr(0, tensor.rfind('.'));
}

std::string LoraAName(const std::string& module) {
  return kPrefix + module + ".lora_A.weight";
}

std::string LoraBName(const std::string& module) {
  return kPrefix + module + ".lora_B.weight";
}

std::string LoraMagnitudeName(const std::string& module) {
  return kPrefix + module + ".lora_magnitude_vector";
}

std::string FullName(const std::string& tensor) { return kPrefix + tensor; }

std::map<std::string, std::vector<int64_t>> BaseShapes(
    const LlamaConfig& base) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (auto& [name, shape] : LlamaTensors(base)) shapes[name] = shape;
  shapes["lm_head.weight"] = {base.vocab_size, base.hidden_size};
  return shapes;
}

}  // namespace sinklora
