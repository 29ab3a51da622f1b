// The core of the inference service on the sample artifacts, without gRPC.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_INFERENCE_CORE_FIXTURE_H_
#define SINKLORA_TESTS_SERVICES_INFERENCE_CORE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "services/inference/engine.h"
#include "services/inference/metrics.h"
#include "services/inference/model_manager.h"
#include "services/inference/prepare.h"
#include "tests/services/inference/sample_artifacts.h"
#include "tests/testing/fake_clock.h"

namespace sinklora::inference {

// What a whole generation gave.
struct Collected {
  std::string text;
  std::vector<int32_t> ids;
  std::vector<std::string> pieces;
  GenerationResult result;
};

class CoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Start({}); }

  // The device of engines that are started.
  virtual std::unique_ptr<kernels::Backend> OpenBackend();
  // (Re)starts engine and manager; the manager's cache survives.
  void Start(const EngineLimits& limits, int max_loaded_targets = 32);
  std::shared_ptr<ServedTarget> Target(const TargetSpec& spec = {"tiny", "",
                                                                 0});
  // 60 tokens of prompt by default, never ending before max_tokens.
  static GenerationParams Params(int64_t max_tokens = 24,
                                 int64_t prompt_tokens = 60);
  absl::StatusOr<std::unique_ptr<Generation>> Submit(GenerationParams params,
                                                     const TargetSpec& spec = {
                                                         "tiny", "", 0});
  static absl::StatusOr<Collected> Collect(Generation* generation);
  absl::StatusOr<Collected> Generate(GenerationParams params,
                                     const TargetSpec& spec = {"tiny", "", 0});
  std::string Metrics() const { return registry_->Serialize(); }

  SampleArtifacts sample_;
  testing::FakeClock clock_;
  std::unique_ptr<MetricsRegistry> registry_;
  std::unique_ptr<InferenceMetrics> metrics_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<ModelManager> models_;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_TESTS_SERVICES_INFERENCE_CORE_FIXTURE_H_
