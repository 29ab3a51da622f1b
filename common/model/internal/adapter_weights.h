// An adapter's tensors on the device, and how a graph binds to them beside the
// base's, which stay as they are.
//
// Move-only; must not outlive its Backend. Immutable after Load:
// thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_ADAPTER_WEIGHTS_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_ADAPTER_WEIGHTS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/internal/device_tensor.h"
#include "common/model/internal/model_weights.h"
#include "common/weights/peft_adapter.h"
#include "kernels/backend.h"

namespace sinklora::internal {

// Finds a tensor of the base on the device, by name.
using BaseTensorFinder = std::function<MatrixView(const std::string& tensor)>;

class AdapterWeights {
 public:
  AdapterWeights() = default;
  // Uploads what `adapter` has for modules whose names start with `prefix`:
  // LoRA matrices as f32, full matrices as `matrix_dtype`, norms as f32. With
  // DoRA, reads the adapted matrices of the base, and computes once what their
  // rows are multiplied with: magnitude / ||W + scale B A||, as PEFT does.
  // kInvalidArgument naming a module whose A, B or magnitude is missing.
  static absl::StatusOr<AdapterWeights> Load(kernels::Backend* backend,
                                             const PeftAdapter& adapter,
                                             kernels::DType matrix_dtype,
                                             std::string_view prefix,
                                             const BaseTensorFinder& base);

  // `base`, with what the adapter replaces. Borrows this object.
  WeightSource Bind(BaseTensorFinder base) const;
  // The head of `weights`, which BindWeights made of Bind(): that of a tied
  // base moves with the embedding only if the adapter says so.
  void BindHead(const LlamaConfig& config, const BaseTensorFinder& base,
                ModelWeights* weights) const;

  int64_t size_bytes() const { return size_bytes_; }

 private:
  struct Lora {
    DeviceTensor a, b, row_scale;
    float scale = 0;
  };
  absl::Status LoadFull(kernels::Backend* backend, const PeftAdapter& adapter,
                        kernels::DType matrix_dtype, std::string_view prefix);
  absl::Status LoadLora(kernels::Backend* backend, const PeftAdapter& adapter,
                        const std::string& module, double scale,
                        const BaseTensorFinder& base);

  std::map<std::string, DeviceTensor> full_;  // by tensor
  std::map<std::string, Lora> lora_;          // by module
  bool head_is_embedding_ = false;            // full_ holds it once
  int64_t size_bytes_ = 0;
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_ADAPTER_WEIGHTS_H_
