// Files for other programs, made of stored artefacts: adapters split into LoRA
// and base, merged models, GGUF. And merged models that are registered.
//
// Making takes time and the disk of a model, so one is made at a time: another
// call is refused meanwhile with kResourceExhausted (EXPORT_BUSY).
//
// Thread-safe; blocks on the disk and computes. Borrows everything in Options.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_EXPORTER_H_
#define SINKLORA_SERVICES_TRAINER_EXPORTER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/metrics/metrics.h"
#include "services/trainer/artifact_store.h"
#include "services/trainer/registry.h"
#include "sinklora/registry/v1/registry_service.pb.h"

namespace sinklora::trainer {

class Exporter {
 public:
  struct Options {
    Registry* registry = nullptr;
    const ArtifactStore* artifacts = nullptr;
    Clock* clock = nullptr;
    // What merges are verified on: as kernels::OpenBackend. Opened for each.
    std::string device = "cpu";
    int threads = 0;  // 0: the machine's cores
    MetricsRegistry* metrics = nullptr;
  };
  explicit Exporter(const Options& options) : options_(options) {}

  struct Exported {
    std::unique_ptr<TempDir> dir;  // gone with this object
    std::string path;              // of the files, in `dir`
    registry::v1::ExportSummary summary;
  };
  // Equal requests make equal bytes as long as what is stored stays. Merges and
  // splits are verified: kDataLoss for one that differs too much. kAborted
  // (EXPORT_CHANGED) when `digest` is not what was made now.
  absl::StatusOr<Exported> Export(const registry::v1::ExportRequest& request);

  // Merges, verifies and registers. The same request_id, or the same adapter
  // and name, returns what is stored.
  absl::StatusOr<registry::v1::Model> Merge(
      const registry::v1::MergeAdapterRequest& request);

 private:
  class Turn;  // the right to make something
  absl::StatusOr<std::unique_ptr<Turn>> TakeTurn();

  const Options options_;
  Mutex mutex_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_EXPORTER_H_
