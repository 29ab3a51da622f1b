// Directories to import, good ones and ones with a defect.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_TRAINER_SAMPLE_UPLOADS_H_
#define SINKLORA_TESTS_SERVICES_TRAINER_SAMPLE_UPLOADS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace sinklora::testing {

struct SampleTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using SampleTensors = std::map<std::string, SampleTensor>;

// Writes a PEFT directory with LoRA on q_proj (rank 2, alpha 4) for a model of
// that shape. `value` fills its matrices.
absl::Status WriteSampleAdapter(const std::string& dir, float value = 0.5F,
                                int64_t layers = 2, int64_t hidden = 32,
                                int64_t q_proj_rows = 32);

// Rewrites a safetensors file after `edit` has changed its tensors.
absl::Status EditTensors(const std::string& path,
                         const std::function<void(SampleTensors*)>& edit);

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_SERVICES_TRAINER_SAMPLE_UPLOADS_H_
