// SPDX-License-Identifier: Apache-2.0
#include "tests/services/inference/core_fixture.h"

#include <utility>

#include "common/base/status.h"
#include "tests/testing/matchers.h"

namespace sinklora::inference {

std::unique_ptr<kernels::Backend> CoreTest::OpenBackend() {
  std::unique_ptr<kernels::Backend> backend;
  EXPECT_OK(kernels::OpenBackend("cpu", {.num_threads = 1}, &backend));
  return backend;
}

void CoreTest::Start(const EngineLimits& limits, int max_loaded_targets) {
  if (sample_.source == nullptr) {
    ASSERT_OK_AND_ASSIGN(sample_, MakeSampleArtifacts());
  }
  models_.reset();
  engine_.reset();
  registry_ = MetricsRegistry::Create();
  metrics_ = std::make_unique<InferenceMetrics>(registry_.get());
  ASSERT_OK_AND_ASSIGN(
      engine_, Engine::Create(limits, OpenBackend(), metrics_.get(), &clock_));
  ASSERT_OK_AND_ASSIGN(
      models_, ModelManager::Create({.cache_directory = sample_.Path("cache"),
                                     .max_loaded_targets = max_loaded_targets},
                                    sample_.source.get(), engine_.get(),
                                    metrics_.get(), &clock_));
}

std::shared_ptr<ServedTarget> CoreTest::Target(const TargetSpec& spec) {
  absl::StatusOr<std::shared_ptr<ServedTarget>> target = models_->Acquire(spec);
  EXPECT_OK(target);
  return target.ok() ? *target : nullptr;
}

GenerationParams CoreTest::Params(int64_t max_tokens, int64_t prompt_tokens) {
  GenerationParams params;
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < prompt_tokens; ++i) {
    prompt.push_back(static_cast<int32_t>(2 + (i * 37) % 300));
  }
  params.prompt = std::move(prompt);
  params.max_tokens = max_tokens;
  params.ignore_eos = true;
  return params;
}

absl::StatusOr<std::unique_ptr<Generation>> CoreTest::Submit(
    GenerationParams params, const TargetSpec& spec) {
  SL_ASSIGN_OR_RETURN(std::shared_ptr<ServedTarget> target,
                      models_->Acquire(spec));
  SL_ASSIGN_OR_RETURN(GenerationRequest request,
                      PrepareGeneration(std::move(target), std::move(params)));
  request.arrival_micros = clock_.MonotonicMicros();
  return engine_->Submit(std::move(request));
}

absl::StatusOr<Collected> CoreTest::Collect(Generation* generation) {
  Collected collected;
  GenerationDelta delta;
  while (generation->Next(&delta)) {
    collected.text += delta.text;
    collected.pieces.push_back(delta.text);
    collected.ids.insert(collected.ids.end(), delta.token_ids.begin(),
                         delta.token_ids.end());
  }
  SL_ASSIGN_OR_RETURN(collected.result, generation->result());
  return collected;
}

absl::StatusOr<Collected> CoreTest::Generate(GenerationParams params,
                                             const TargetSpec& spec) {
  SL_ASSIGN_OR_RETURN(const std::unique_ptr<Generation> generation,
                      Submit(std::move(params), spec));
  return Collect(generation.get());
}

}  // namespace sinklora::inference
