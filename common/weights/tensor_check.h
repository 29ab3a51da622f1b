// The tensors that were found in a model's files against those that its config
// asks for.
//
// Thread-safe (functions only). Private to this folder.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_TENSOR_CHECK_H_
#define SINKLORA_COMMON_WEIGHTS_TENSOR_CHECK_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "common/weights/llama_config.h"
#include "common/weights/safetensors.h"
#include "common/weights/weight_index.h"

namespace sinklora {

// The tensors of LlamaTensors(config) by name, out of `found`, a pad row (see
// ModelFiles::Open) cut off. kInvalidArgument naming every missing tensor, or
// the first of another shape or dtype with both, or every unknown one.
absl::StatusOr<std::map<std::string, StoredTensor>> CheckTensors(
    const LlamaConfig& config, const std::map<std::string, FoundTensor>& found,
    const std::string& directory);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_TENSOR_CHECK_H_
