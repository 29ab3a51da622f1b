// The whole product in one process: curator, trainer, workers and inference
// behind one gRPC port and one /metrics, on one data directory.
//
//   DIR/lock             held while running
//   DIR/endpoint.json    {"grpc": "host:port", "metrics": "http://...", "pid":
//   N}, there while serving DIR/curator, DIR/trainer, DIR/worker, DIR/inference
//
// The parts talk to each other over gRPC on the same port, as separate
// processes do. Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_STANDALONE_STANDALONE_H_
#define SINKLORA_SERVICES_STANDALONE_STANDALONE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/disk_budget.h"
#include "common/model/options.h"
#include "common/model/weight_type.h"

namespace sinklora::standalone {

struct StandaloneOptions {
  // Required; made when absent.
  std::string data_dir;
  // Directory that clients may import models from by path; empty: none.
  std::string import_root = {};
  // Loopback host:port; port 0 picks a free one.
  std::string listen = "127.0.0.1:7070";
  std::string metrics_listen = "127.0.0.1:9464";
  // Of curation, exports, each worker and inference; 0: the machine's cores.
  int threads = 0;
  // Jobs that train at the same time, in [0, 64].
  int workers = 1;
  // "auto", "cpu", ...: as kernels::OpenBackend.
  std::string device = "auto";
  // Of the workers, as ParseDevices of common/model/device.h; empty: `device`.
  // Several GPUs take one worker: two groups on the same GPUs could wait for
  // each other.
  std::string worker_device = {};
  // As kernels::BackendOptions; the process's.
  std::string cpu_isa = "auto";
  // As kernels::BackendOptions, of what is served.
  std::string cuda_graphs = "auto";
  // Storage of the weight matrices that are served.
  WeightType weight_type = WeightType::kFloat32;
  // Of caches that are asked for without one; default: the model's own.
  std::optional<CacheStorage> cache_storage = {};
  // Device memory for what is served; 0: nine tenths of what the device has.
  int64_t inference_memory_bytes = 0;
  // How long a job waits for a worker that went silent, > 0.
  double lease_ttl_seconds = 15;
  // Of the data directory's disk that uploads and datasets leave free, >= 0.
  int64_t disk_reserve_bytes = kDefaultDiskReserveBytes;
};

class Standalone {
 public:
  // Serving when it returns. kFailedPrecondition when another process uses the
  // data directory.
  static absl::StatusOr<std::unique_ptr<Standalone>> Create(
      const StandaloneOptions& options);
  // Stop(0) unless stopped.
  virtual ~Standalone() = default;

  virtual std::string address() const = 0;      // host:port
  virtual std::string metrics_url() const = 0;  // http://host:port/metrics
  // Refuses new work, lets running jobs commit a checkpoint and running calls
  // end for up to `grace_seconds`, and releases the data directory. Idempotent.
  virtual void Stop(double grace_seconds) = 0;
};

}  // namespace sinklora::standalone

#endif  // SINKLORA_SERVICES_STANDALONE_STANDALONE_H_
