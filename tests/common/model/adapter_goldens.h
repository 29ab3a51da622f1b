// The adapters of tests/parity/data/adapters with what PEFT computes with them,
// and logits of our own to compare.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_COMMON_MODEL_ADAPTER_GOLDENS_H_
#define SINKLORA_TESTS_COMMON_MODEL_ADAPTER_GOLDENS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/status.h"
#include "common/model/inference_model.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_adapter.h"
#include "nlohmann/json.hpp"
#include "tests/common/model/serving_fixture.h"

namespace sinklora {

inline constexpr const char* kGoldenAdapters[] = {
    "lora",  "rslora", "dora",           "dora_rslora", "patterns",
    "saved", "head",   "regex",          "layers",      "all_linear",
    "bf16",  "f16",    "tied_embedding", "tied_both"};

std::string GoldenPath(const std::string& name);

struct AdapterGolden {
  std::string directory;  // the adapter's
  std::unique_ptr<ModelFiles> base;
  PeftAdapter adapter;
  std::vector<int32_t> ids;
  std::vector<float> logits;  // [tokens, vocab]
  std::unique_ptr<SafetensorsFile> expected;

  static absl::StatusOr<AdapterGolden> Load(const std::string& name);
  absl::StatusOr<std::vector<float>> Expected(const std::string& name) const;
};

// A tensor of the adapter by the name it has in a training run.
absl::StatusOr<std::vector<float>> ValueOf(const PeftAdapter& adapter,
                                           const std::string& name);

// Logits after every token, [tokens, vocab].
absl::StatusOr<std::vector<float>> AllLogits(std::shared_ptr<ServedModel> model,
                                             const std::vector<int32_t>& ids);

// |got - want| <= tolerance * max|want|, everywhere.
::testing::AssertionResult LogitsNear(const std::vector<float>& got,
                                      const std::vector<float>& want,
                                      double tolerance);

}  // namespace sinklora

#endif  // SINKLORA_TESTS_COMMON_MODEL_ADAPTER_GOLDENS_H_
