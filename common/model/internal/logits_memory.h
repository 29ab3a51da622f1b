// Device memory for the logits of a step. The rows of a batch hold its block
// together until each is fed its next token; a block that nobody holds any
// more is the next step's, so that steps of the same batches allocate nothing.
//
// Not thread-safe. Blocks must not outlive the backend.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_INTERNAL_LOGITS_MEMORY_H_
#define SINKLORA_COMMON_MODEL_INTERNAL_LOGITS_MEMORY_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/status.h"
#include "common/model/internal/device_tensor.h"

namespace sinklora::internal {

class LogitsMemory {
 public:
  // [at least rows, vocab] f32, not initialised.
  absl::StatusOr<std::shared_ptr<const DeviceTensor>> Take(
      kernels::Backend* backend, int64_t rows, int64_t vocab) {
    std::shared_ptr<const DeviceTensor> out;
    std::erase_if(blocks_, [&](const auto& block) {
      if (block.use_count() > 1) return false;
      const bool fits = out == nullptr && block->view().shape[0] >= rows &&
                        block->view().shape[1] == vocab;
      if (fits) out = block;
      return !fits;
    });
    if (out != nullptr) return out;
    SL_ASSIGN_OR_RETURN(
        DeviceTensor made,
        DeviceTensor::Create(backend, kernels::DType::kF32, {rows, vocab}));
    blocks_.push_back(std::make_shared<const DeviceTensor>(std::move(made)));
    return blocks_.back();
  }

 private:
  std::vector<std::shared_ptr<const DeviceTensor>> blocks_;
};

}  // namespace sinklora::internal

#endif  // SINKLORA_COMMON_MODEL_INTERNAL_LOGITS_MEMORY_H_
