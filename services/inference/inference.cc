// SPDX-License-Identifier: Apache-2.0
#include "services/inference/inference.h"

#include <utility>

#include "common/base/status.h"
#include "common/model/device.h"
#include "services/inference/inference_service.h"
#include "services/inference/metrics.h"
#include "services/inference/model_manager.h"
#include "services/inference/registry_client.h"

namespace sinklora::inference {
namespace {

absl::Status CheckOptions(const InferenceOptions& options) {
  if (options.cache_dir.empty()) {
    return absl::InvalidArgumentError("cache_dir is empty");
  }
  if (!options.registry_address) {
    return absl::InvalidArgumentError("registry_address is not set");
  }
  if (options.metrics == nullptr || options.executor == nullptr ||
      options.clock == nullptr) {
    return absl::InvalidArgumentError(
        "metrics, executor and clock must all be set");
  }
  return absl::OkStatus();
}

// Handlers of Generate and Score wait for the engine. They get their own
// threads, one for each request the engine's limits admit and a few more that
// learn that it is full: waiting for tokens must not keep other calls of the
// process out.
std::unique_ptr<Executor> MakeEngineExecutor(const EngineLimits& limits) {
  constexpr int kSpareThreads = 8;
  return Executor::Create({.name = "inference",
                           .max_threads = limits.max_running_requests +
                                          limits.max_waiting_requests +
                                          kSpareThreads,
                           .max_queued = limits.max_waiting_requests});
}

class InferenceImpl final : public Inference {
 public:
  // Destruction is in reverse order: the manager's targets end on the engine,
  // the engine's tasks count in the metrics.
  InferenceImpl(const InferenceOptions& options,
                std::unique_ptr<InferenceMetrics> metrics,
                std::unique_ptr<Engine> engine,
                std::unique_ptr<RegistryClient> registry,
                std::unique_ptr<ModelManager> models)
      : metrics_(std::move(metrics)),
        engine_(std::move(engine)),
        registry_(std::move(registry)),
        models_(std::move(models)),
        engine_executor_(MakeEngineExecutor(options.limits)),
        service_({.service = "InferenceService",
                  .executor = options.executor,
                  .metrics = options.metrics},
                 {.service = "InferenceService",
                  .executor = engine_executor_.get(),
                  .metrics = options.metrics},
                 engine_.get(), models_.get(), metrics_.get(), options.clock,
                 options.cache_storage) {}

  grpc::Service* service() override { return &service_; }
  void Drain() override { engine_->Drain(); }
  void Stop() override {
    engine_->Drain();
    engine_->WaitUntilIdle();
  }

 private:
  const std::unique_ptr<InferenceMetrics> metrics_;
  const std::unique_ptr<Engine> engine_;
  const std::unique_ptr<RegistryClient> registry_;
  const std::unique_ptr<ModelManager> models_;
  const std::unique_ptr<Executor> engine_executor_;
  InferenceServiceImpl service_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Inference>> Inference::Create(
    const InferenceOptions& options) {
  SL_RETURN_IF_ERROR(CheckOptions(options));
  SL_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Backend> backend,
                      OpenDevice("inference", options.device,
                                 {.num_threads = options.threads,
                                  .cpu_isa = options.cpu_isa,
                                  .cuda_graphs = options.cuda_graphs},
                                 options.metrics));
  auto metrics = std::make_unique<InferenceMetrics>(options.metrics);
  SL_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                      Engine::Create(options.limits, std::move(backend),
                                     metrics.get(), options.clock));
  auto registry = std::make_unique<RegistryClient>(options.registry_address);
  SL_ASSIGN_OR_RETURN(
      std::unique_ptr<ModelManager> models,
      ModelManager::Create({.cache_directory = options.cache_dir,
                            .weight_type = options.weight_type,
                            .max_loaded_targets = options.max_loaded_targets},
                           registry.get(), engine.get(), metrics.get(),
                           options.clock));
  return std::make_unique<InferenceImpl>(options, std::move(metrics),
                                         std::move(engine), std::move(registry),
                                         std::move(models));
}

}  // namespace sinklora::inference
