// What the model's tests share: a small random model on disk and as an oracle,
// and ragged packed batches.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_COMMON_MODEL_MODEL_FIXTURE_H_
#define SINKLORA_TESTS_COMMON_MODEL_MODEL_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/files.h"
#include "common/model/options.h"
#include "common/model/training_run.h"
#include "common/weights/model_files.h"
#include "kernels/backend.h"
#include "tests/testing/matchers.h"
#include "tests/testing/reference_model/reference_model.h"

namespace sinklora {

// 2 layers, hidden 32, 4 heads of 8 over 2 kv heads, vocabulary 48, context 64.
LlamaConfig SmallConfig(bool tied);

// Relatives of SmallConfig, one a set of tensors or windows: all biases, the
// biases of q, k and v, q/k norms, a window in every layer, a window in the
// last layer. Some tied, some not.
struct NamedConfig {
  const char* name;
  LlamaConfig config;
};
std::vector<NamedConfig> SmallArchitectures();

struct ModelOnDisk {
  std::unique_ptr<TempDir> directory;
  testing::ReferenceModel reference;
  std::unique_ptr<ModelFiles> files;
};
// Fails the test when it cannot be written.
ModelOnDisk MakeModel(const LlamaConfig& config, uint64_t seed,
                      double deviation = 0.25);

std::unique_ptr<kernels::Backend> OpenTestBackend(const char* name,
                                                  int num_threads = 2);

// An example with the given document lengths, random ids, and about 3 of 4
// tokens supervised.
TrainingExample RandomExample(const std::vector<int64_t>& documents,
                              int64_t vocab_size, uint64_t seed);
std::vector<int32_t> RandomTokens(int64_t count, int64_t vocab_size,
                                  uint64_t seed);

// The same batch for the oracle, from the definition.
testing::ReferenceBatch ToReference(
    const std::vector<TrainingExample>& examples,
    const AttentionOptions& attention, int64_t num_heads);
int64_t LabelCount(const testing::ReferenceBatch& batch);

TrainingOptions SmallTrainingOptions();

}  // namespace sinklora

#endif  // SINKLORA_TESTS_COMMON_MODEL_MODEL_FIXTURE_H_
