// Converts a llama2.c checkpoint ("v0" file) into a Hugging Face directory, for
// tests with really trained weights.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_COMMON_MODEL_LLAMA2C_MODEL_H_
#define SINKLORA_TESTS_COMMON_MODEL_LLAMA2C_MODEL_H_

#include <string>

#include "absl/status/status.h"

namespace sinklora::testing {

// Writes config.json and model.safetensors (f32) into `directory`. The rows of
// q and k are permuted from the interleaved rotation of llama2.c to the
// half-split one of Hugging Face.
absl::Status ConvertLlama2c(const std::string& checkpoint,
                            const std::string& directory);

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_COMMON_MODEL_LLAMA2C_MODEL_H_
