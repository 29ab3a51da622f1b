// The inference service, assembled: metrics, engine thread, model manager,
// registry client, gRPC service. What main.cc and the all-in-one process run.
//
// Order of shutdown: Drain(), then the server's Drain(), then Stop(), then
// destruction.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_INFERENCE_H_
#define SINKLORA_SERVICES_INFERENCE_INFERENCE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/executor.h"
#include "common/metrics/metrics.h"
#include "common/model/options.h"
#include "common/model/weight_type.h"
#include "services/inference/engine.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace sinklora::inference {

struct InferenceOptions {
  // Required. Directory of downloaded models and adapters; made when absent.
  // Used by one process at a time.
  std::string cache_dir;
  // Required. host:port of the registry, asked before every call to it; empty
  // while it is not known yet.
  std::function<std::string()> registry_address;
  std::string device = "auto";   // as kernels::OpenBackend
  int threads = 0;               // of the CPU backend; 0: the machine's cores
  std::string cpu_isa = "auto";  // as kernels::BackendOptions; the process's
  std::string cuda_graphs = "auto";  // as kernels::BackendOptions
  // Storage of the weight matrices of every model.
  WeightType weight_type = WeightType::kFloat32;
  // Storage of the caches of requests that ask for none; default: the model's
  // own (ServedModel::own_cache_storage).
  std::optional<CacheStorage> cache_storage;
  int max_loaded_targets = 32;
  EngineLimits limits;
  // Required, borrowed. Generate and Score, which wait for the engine, have
  // threads of their own; the executor serves the other calls.
  MetricsRegistry* metrics = nullptr;
  Executor* executor = nullptr;
  Clock* clock = nullptr;
};

// Thread-safe.
class Inference {
 public:
  // kInvalidArgument for a missing or impossible option, kUnavailable for a
  // device that is absent.
  static absl::StatusOr<std::unique_ptr<Inference>> Create(
      const InferenceOptions& options);
  virtual ~Inference() = default;

  virtual grpc::Service* service() = 0;
  // Refuses new requests (UNAVAILABLE) from now on; those accepted go on.
  virtual void Drain() = 0;
  // Drain(), then waits until the accepted ones have ended.
  virtual void Stop() = 0;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_INFERENCE_H_
