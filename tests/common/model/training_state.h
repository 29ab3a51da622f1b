// Reading the state of a training run in tests.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_COMMON_MODEL_TRAINING_STATE_H_
#define SINKLORA_TESTS_COMMON_MODEL_TRAINING_STATE_H_

#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "common/model/internal/training_run_impl.h"
#include "tests/common/model/model_fixture.h"

namespace sinklora {

// Values and both moments of every trainable tensor; compares bit for bit
// unless there is a NaN.
using State = std::map<std::string, std::vector<float>>;

inline std::vector<float> Values(kernels::Backend* backend,
                                 const internal::DeviceTensor& tensor) {
  auto out = internal::Download(backend, tensor.view());
  EXPECT_TRUE(out.ok()) << out.status();
  return out.ok() ? *out : std::vector<float>();
}

inline State StateOf(kernels::Backend* backend,
                     const internal::TrainingRunImpl& run) {
  State out;
  for (const internal::Trainable& t : run.trainables().tensors()) {
    out[t.spec.name] = Values(backend, t.master);
    out[t.spec.name + " m"] = Values(backend, t.m);
    out[t.spec.name + " v"] = Values(backend, t.v);
  }
  return out;
}

inline State Gradients(kernels::Backend* backend,
                       const internal::TrainingRunImpl& run) {
  State out;
  for (const internal::Trainable& t : run.trainables().tensors()) {
    out[t.spec.name] = Values(backend, t.grad);
  }
  return out;
}

// Replaces a row of a trainable matrix.
inline void SetRow(kernels::Backend* backend,
                   const internal::TrainingRunImpl& run,
                   const std::string& name, int64_t row,
                   std::span<const float> values) {
  const internal::Trainable* found = run.trainables().Find(name);
  ASSERT_NE(found, nullptr);
  ASSERT_OK(
      internal::Upload(backend, values, found->master.view().Rows(row, 1)));
}

// B starts at 0, which would hide half of the gradients.
inline void RandomizeLoraB(kernels::Backend* backend,
                           const internal::TrainingRunImpl& run) {
  std::mt19937_64 bits(17);
  std::normal_distribution<float> normal;
  for (const internal::Trainable& t : run.trainables().tensors()) {
    if (!t.spec.name.ends_with(internal::kLoraBSuffix)) continue;
    std::vector<float> values(static_cast<size_t>(t.spec.num_elements()));
    for (float& x : values) x = 0.2f * normal(bits);
    ASSERT_OK(internal::Upload(backend, values, t.master.view()));
  }
}

// The state after `steps` steps on the same examples, on a backend of its own.
inline State StateAfter(const ModelFiles& files, const TrainingOptions& options,
                        const std::vector<TrainingExample>& examples, int steps,
                        int num_threads) {
  const auto backend = OpenTestBackend("cpu", num_threads);
  auto run = internal::TrainingRunImpl::Create(backend.get(), files, options);
  EXPECT_TRUE(run.ok()) << run.status();
  if (!run.ok()) return {};
  for (int i = 0; i < steps; ++i) EXPECT_OK((*run)->Step(examples, nullptr));
  return StateOf(backend.get(), **run);
}

}  // namespace sinklora

#endif  // SINKLORA_TESTS_COMMON_MODEL_TRAINING_STATE_H_
