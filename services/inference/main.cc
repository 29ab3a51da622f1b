// sinklora-inference: generates and scores text with the registry's models.
//
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/rpc/process.h"
#include "services/inference/inference.h"

ABSL_FLAG(std::string, cache_dir, "",
          "Required. Directory for downloaded models and adapters.");
ABSL_FLAG(std::string, registry, "",
          "Required. host:port of the registry (sinklora-trainer).");
ABSL_FLAG(std::string, device, "auto",
          "Where to compute: auto (a GPU where there is one, else the cpu), "
          "cpu, cuda:N or "
          "reference.");
ABSL_FLAG(int, threads, 0, "Threads of the cpu device; 0 takes all cores.");
ABSL_FLAG(
    std::string, cpu_isa, "auto",
    "Instruction set of the cpu device: auto, amx, avx512_bf16, avx512, avx2 "
    "or portable.");
ABSL_FLAG(std::string, cuda_graphs, "auto",
          "Whether a GPU records decode steps and repeats the records: auto or "
          "off. The tokens are the same.");
ABSL_FLAG(int, max_running_requests, 16,
          "Generations that hold a cache at the same time.");
ABSL_FLAG(int, max_waiting_requests, 64,
          "Requests that may wait before more are refused.");
ABSL_FLAG(int64_t, max_memory_bytes, 0,
          "Device memory for weights and running generations: one that does "
          "not fit waits, or is refused when it never would. 0 takes nine "
          "tenths of what the device has.");
ABSL_FLAG(std::string, cache_storage, "auto",
          "Storage of keys and values where a request asks for none: float32, "
          "bfloat16, int8, or auto (bfloat16 beside bfloat16 weights, else "
          "float32).");
ABSL_FLAG(int, max_loaded_targets, 32,
          "Loaded (model, adapter, context) combinations.");
ABSL_FLAG(std::string, weight_type, "float32",
          "Storage of weight matrices: float32, bfloat16, int8 or int4.");

namespace sinklora::inference {
namespace {

class HostedInference final : public HostedService {
 public:
  explicit HostedInference(std::unique_ptr<Inference> inference)
      : inference_(std::move(inference)) {}
  std::vector<grpc::Service*> grpc_services() override {
    return {inference_->service()};
  }
  void OnStop() override { inference_->Drain(); }

 private:
  const std::unique_ptr<Inference> inference_;
};

absl::StatusOr<std::unique_ptr<HostedService>> MakeInference(
    const ProcessEnv& env) {
  const std::string registry = absl::GetFlag(FLAGS_registry);
  if (registry.empty()) {
    return absl::InvalidArgumentError(
        "--registry is empty, must be the registry's host:port");
  }
  if (absl::GetFlag(FLAGS_cache_dir).empty()) {
    return absl::InvalidArgumentError(
        "--cache-dir is empty, must name a directory");
  }
  InferenceOptions options;
  options.cache_dir = absl::GetFlag(FLAGS_cache_dir);
  options.registry_address = [registry] { return registry; };
  options.device = absl::GetFlag(FLAGS_device);
  options.threads = absl::GetFlag(FLAGS_threads);
  options.cpu_isa = absl::GetFlag(FLAGS_cpu_isa);
  options.cuda_graphs = absl::GetFlag(FLAGS_cuda_graphs);
  const absl::StatusOr<WeightType> weight_type =
      ParseWeightType(absl::GetFlag(FLAGS_weight_type));
  if (!weight_type.ok()) {
    return Annotate(weight_type.status(), "--weight-type");
  }
  options.weight_type = *weight_type;
  if (const std::string storage = absl::GetFlag(FLAGS_cache_storage);
      storage != "auto") {
    const absl::StatusOr<CacheStorage> parsed = ParseCacheStorage(storage);
    if (!parsed.ok()) return Annotate(parsed.status(), "--cache-storage");
    options.cache_storage = *parsed;
  }
  options.limits.max_memory_bytes = absl::GetFlag(FLAGS_max_memory_bytes);
  options.max_loaded_targets = absl::GetFlag(FLAGS_max_loaded_targets);
  options.limits.max_running_requests =
      absl::GetFlag(FLAGS_max_running_requests);
  options.limits.max_waiting_requests =
      absl::GetFlag(FLAGS_max_waiting_requests);
  options.metrics = env.metrics;
  options.executor = env.executor;
  options.clock = RealClock();
  SL_ASSIGN_OR_RETURN(std::unique_ptr<Inference> inference,
                      Inference::Create(options));
  return std::make_unique<HostedInference>(std::move(inference));
}

}  // namespace
}  // namespace sinklora::inference

int main(int argc, char** argv) {
  return sinklora::RunProcess(
      argc, argv,
      {.usage =
           "sinklora-inference: generates and scores text with the registry's "
           "models\nexample: sinklora-inference --cache-dir=cache "
           "--registry=127.0.0.1:7071",
       .listen = "127.0.0.1:7073",
       .metrics_listen = "127.0.0.1:9467"},
      sinklora::inference::MakeInference);
}
