// SPDX-License-Identifier: Apache-2.0
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/peft_names.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"

namespace sinklora {

absl::Status WritePeftAdapter(const PeftAdapter& adapter,
                              const std::string& directory) {
  std::map<std::string, StoredTensor> tensors;
  for (const auto& [module, a] : adapter.lora_a) {
    tensors[LoraAName(module)] = a.view();
  }
  for (const auto& [module, b] : adapter.lora_b) {
    tensors[LoraBName(module)] = b.view();
  }
  for (const auto& [module, magnitude] : adapter.lora_magnitude) {
    tensors[LoraMagnitudeName(module)] = magnitude.view();
  }
  PeftConfig config = adapter;
  for (const auto& [name, full] : adapter.full) {
    tensors[FullName(name)] = full.view();
    if (adapter.modules_to_save.empty()) {
      config.modules_to_save.push_back(ModuleOfTensor(name));
    }
  }
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (adapter.context_tokens > 0) {
    metadata[kContextTokensKey] = fmt::format("{}", adapter.context_tokens);
    metadata[kRopeFactorKey] = fmt::format("{}", adapter.rope_factor);
  }
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  SL_RETURN_IF_ERROR(WriteSafetensors(JoinPath(directory, kAdapterModelFile),
                                      tensors, metadata));
  return WriteFileAtomic(JoinPath(directory, kAdapterConfigFile),
                         ToJson(config));
}

}  // namespace sinklora
