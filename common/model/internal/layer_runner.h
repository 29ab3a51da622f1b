// Runs a model that need not fit in memory, one layer at a time, on a short
// sequence: the weights of one layer are loaded, used and forgotten.
//
// Not thread-safe. Borrows backend, files and adapter.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_LAYER_RUNNER_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_LAYER_RUNNER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/internal/activations.h"
#include "common/model/internal/adapter_weights.h"
#include "common/model/internal/arena.h"
#include "common/model/internal/layer.h"
#include "common/model/internal/rope_table.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_adapter.h"

namespace sinklora::internal {

// values[i] times a random factor within 1 +- `noise`, a function of i and
// `stream`.
void AddNoise(double noise, uint64_t stream, std::vector<float>* values);

class LayerRunner {
 public:
  // For sequences of `tokens` tokens from position 0, in f32. `adapter` may be
  // null; its RoPE factor holds where it has one. Weights of `files` are used
  // times a random factor within 1 +- `noise`; 0: as they are.
  static absl::StatusOr<std::unique_ptr<LayerRunner>> Create(
      kernels::Backend* backend, const ModelFiles* files,
      const PeftAdapter* adapter, int64_t tokens, double noise = 0);

  // All vectors are [tokens, hidden], row-major.
  absl::StatusOr<std::vector<float>> Embed(std::span<const int32_t> ids);
  absl::Status LoadLayer(int64_t layer);
  // Output of the loaded layer.
  absl::StatusOr<std::vector<float>> RunLayer(std::span<const float> input);
  // [tokens, vocab], from the output of the last layer.
  absl::StatusOr<std::vector<float>> Logits(std::span<const float> hidden);

 private:
  LayerRunner(kernels::Backend* backend, const ModelFiles* files,
              const PeftAdapter* adapter, int64_t tokens, double noise)
      : backend_(backend),
        files_(files),
        adapter_(adapter),
        tokens_(tokens),
        noise_(noise) {}
  const LlamaConfig& config() const { return files_->config(); }
  absl::Status Init();
  // Tensors whose names start with `prefix`, in place of those before.
  absl::Status Load(std::string_view prefix);
  absl::StatusOr<DeviceTensor> UploadRows(std::span<const float> values,
                                          int64_t columns);

  kernels::Backend* const backend_;
  const ModelFiles* const files_;
  const PeftAdapter* const adapter_;
  const int64_t tokens_;
  const double noise_;
  RopeTable rope_;
  DeviceTensor positions_;
  std::map<std::string, DeviceTensor> tensors_;
  AdapterWeights adapter_weights_;
  int64_t layer_index_ = 0;  // of the loaded one
  LayerWeights layer_;
  Arena arena_;
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_LAYER_RUNNER_H_
