// SPDX-License-Identifier: Apache-2.0
#include "tests/services/trainer/sample_uploads.h"

#include <fmt/format.h>

#include <memory>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/safetensors.h"

namespace sinklora::testing {
namespace {

constexpr int64_t kRank = 2;

absl::Status Write(const std::string& path, const SampleTensors& tensors,
                   FileDType dtype) {
  std::map<std::string, std::unique_ptr<TensorBytes>> bytes;
  std::map<std::string, StoredTensor> views;
  for (const auto& [name, tensor] : tensors) {
    bytes[name] = std::make_unique<TensorBytes>(tensor.values.data(),
                                                tensor.shape, dtype);
    views[name] = bytes[name]->view();
  }
  return WriteSafetensors(path, views, {{"format", "pt"}});
}

}  // namespace

absl::Status WriteSampleAdapter(const std::string& dir, float value,
                                int64_t layers, int64_t hidden,
                                int64_t q_proj_rows) {
  SL_RETURN_IF_ERROR(MakeDirs(dir));
  SL_RETURN_IF_ERROR(WriteFileAtomic(
      JoinPath(dir, "adapter_config.json"),
      fmt::format(R"({{"peft_type": "LORA", "task_type": "CAUSAL_LM",
 "base_model_name_or_path": "base", "r": {}, "lora_alpha": 4,
 "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": false,
 "inference_mode": true, "target_modules": ["q_proj"]}}
)",
                  kRank)));
  SampleTensors tensors;
  const auto fill = [&](const std::string& name, int64_t rows, int64_t cols) {
    tensors[name] = {
        {rows, cols},
        std::vector<float>(static_cast<size_t>(rows * cols), value)};
  };
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::string module =
        fmt::format("base_model.model.model.layers.{}.self_attn.q_proj", layer);
    fill(module + ".lora_A.weight", kRank, hidden);
    fill(module + ".lora_B.weight", q_proj_rows, kRank);
  }
  return Write(JoinPath(dir, "adapter_model.safetensors"), tensors,
               FileDType::kF32);
}

absl::Status EditTensors(const std::string& path,
                         const std::function<void(SampleTensors*)>& edit) {
  SampleTensors tensors;
  {
    SL_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path));
    for (const auto& [name, stored] : file->tensors()) {
      SL_ASSIGN_OR_RETURN(tensors[name].values, ToF32(stored));
      tensors[name].shape = stored.shape;
    }
  }
  edit(&tensors);
  return Write(path, tensors, FileDType::kF32);
}

}  // namespace sinklora::testing
