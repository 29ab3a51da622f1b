// The curator without gRPC: opens the data directory, puts the parts together,
// and keeps what they share.
//
// Thread-safe after Create. Borrows models, metrics, disk and clock.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_CURATOR_CORE_H_
#define SINKLORA_SERVICES_CURATOR_CURATOR_CORE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/disk_budget.h"
#include "common/base/files.h"
#include "common/store/store.h"
#include "services/curator/catalog.h"
#include "services/curator/dataset_store.h"
#include "services/curator/metrics.h"
#include "services/curator/name_locks.h"
#include "services/curator/source_store.h"
#include "services/curator/tokenizer_cache.h"
#include "services/curator/types.h"

namespace sinklora::curator {

class CuratorCore {
 public:
  struct Options {
    std::string data_dir;  // created when absent
    int threads = 1;       // of one curation, >= 1
    ModelSource* models = nullptr;
    CuratorMetrics* metrics = nullptr;
    DiskBudget* disk = nullptr;  // of data_dir
    Clock* clock = nullptr;
  };
  // Removes what a crash left half done. kFailedPrecondition when another
  // process has the directory open.
  static absl::StatusOr<std::unique_ptr<CuratorCore>> Create(Options options);

  // A directory for an upload, deleted with the object.
  absl::StatusOr<std::unique_ptr<TempDir>> NewUploadDir();
  // Room for what is about to be written. Imports, curations and exports ask
  // themselves; an upload must.
  DiskBudget* disk() const { return options_.disk; }
  // See SourceStore and DatasetStore. After Stop they end with kCancelled.
  absl::StatusOr<SourceInfo> ImportSource(const ImportRequest& request,
                                          const std::string& directory,
                                          std::vector<StoredFile> files,
                                          const CancelledFn& cancelled);
  // `progress` is called at the begin and end of each stage, and at most four
  // times a second in between.
  absl::StatusOr<DatasetInfo> Curate(const CurateRequest& request,
                                     const CancelledFn& cancelled,
                                     const ProgressFn& progress);
  absl::StatusOr<DatasetInfo> GetDataset(const std::string& name);

  struct DatasetPage {
    std::vector<DatasetInfo> datasets;
    std::string next_page_token;  // empty on the last page
  };
  // By name. page_size in [0, 1000], 0 means 50; kInvalidArgument otherwise,
  // and for a token that no page had.
  absl::StatusOr<DatasetPage> ListDatasets(int64_t page_size,
                                           const std::string& page_token);
  absl::StatusOr<std::unique_ptr<ExampleReader>> OpenExamples(
      const std::string& name, const std::string& digest, Split split) {
    return datasets_.OpenExamples(name, digest, split);
  }
  absl::StatusOr<DatasetStore::Export> MakeExport(const std::string& name,
                                                  const CancelledFn& cancelled);

  // Ends running imports, curations and exports at their next step.
  void Stop() { stopping_.store(true, std::memory_order_release); }

 private:
  CuratorCore(Options options, DataLayout layout, std::unique_ptr<Store> store);
  // Counts what is stored and removes what nothing refers to.
  absl::Status Recover();
  CancelledFn OrStopping(const CancelledFn& cancelled) const;

  const Options options_;
  const DataLayout layout_;
  const std::unique_ptr<Store> store_;
  Catalog catalog_;
  NameLocks locks_;
  TokenizerCache tokenizers_;
  SourceStore sources_;
  DatasetStore datasets_;
  std::atomic<bool> stopping_{false};
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_CURATOR_CORE_H_
