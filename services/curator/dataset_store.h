// Makes datasets and gives them out.
//
// Thread-safe. Borrows everything in Options.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_DATASET_STORE_H_
#define SINKLORA_SERVICES_CURATOR_DATASET_STORE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/files.h"
#include "services/curator/catalog.h"
#include "services/curator/data_layout.h"
#include "services/curator/example_file.h"
#include "services/curator/metrics.h"
#include "services/curator/name_locks.h"
#include "services/curator/source_store.h"
#include "services/curator/tokenizer_cache.h"
#include "services/curator/types.h"

namespace sinklora::curator {

struct CurateRequest {
  std::string name;
  Recipe recipe;
  std::string request_id;
};

class DatasetStore {
 public:
  struct Options {
    DataLayout layout;
    int threads = 1;
    Catalog* catalog = nullptr;
    NameLocks* locks = nullptr;
    SourceStore* sources = nullptr;
    TokenizerCache* tokenizers = nullptr;
    CuratorMetrics* metrics = nullptr;
    Clock* clock = nullptr;
  };
  explicit DatasetStore(Options options) : options_(std::move(options)) {}

  // Builds and stores a dataset; all of it or, after an error, nothing. Returns
  // the stored dataset for a repeated request and for the same name, recipe,
  // sources and tokenizer; kAlreadyExists for the same name otherwise.
  // `cancelled` is called from several threads, `progress` from this one.
  absl::StatusOr<DatasetInfo> Curate(const CurateRequest& request,
                                     const CancelledFn& cancelled,
                                     const ProgressFn& progress);

  // The examples of one split. kFailedPrecondition unless `digest` is empty or
  // the dataset's.
  absl::StatusOr<std::unique_ptr<ExampleReader>> OpenExamples(
      const std::string& name, const std::string& digest, Split split);

  // Files of an export. In order of path: `stored` below `stored_directory`,
  // then `made` below `scratch`, which are deleted with this object.
  struct Export {
    std::string stored_directory;
    std::vector<std::string> stored;
    std::unique_ptr<TempDir> scratch;
    std::vector<std::string> made;
  };
  absl::StatusOr<Export> MakeExport(const std::string& name,
                                    const CancelledFn& cancelled);

 private:
  struct Plan;  // what a curation is made of, resolved
  absl::StatusOr<Plan> MakePlan(const CurateRequest& request,
                                const CancelledFn& cancelled);
  absl::StatusOr<DatasetInfo> Build(const Plan& plan, const RequestKey& key,
                                    const CancelledFn& cancelled,
                                    const ProgressFn& progress);

  const Options options_;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_DATASET_STORE_H_
