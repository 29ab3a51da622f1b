// Imports sources: normalised records in content-addressed directories, names
// in the catalog.
//
// Thread-safe. Borrows catalog, locks, metrics, disk and clock.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_SOURCE_STORE_H_
#define SINKLORA_SERVICES_CURATOR_SOURCE_STORE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/disk_budget.h"
#include "services/curator/catalog.h"
#include "services/curator/data_layout.h"
#include "services/curator/metrics.h"
#include "services/curator/name_locks.h"
#include "services/curator/source_file.h"
#include "services/curator/types.h"

namespace sinklora::curator {

struct ImportRequest {
  std::string name;
  SourceFormat format = SourceFormat::kUnspecified;
  std::string request_id;
};

class SourceStore {
 public:
  struct Options {
    DataLayout layout;
    Catalog* catalog = nullptr;
    NameLocks* locks = nullptr;
    CuratorMetrics* metrics = nullptr;
    DiskBudget* disk = nullptr;
    Clock* clock = nullptr;
  };
  explicit SourceStore(Options options) : options_(std::move(options)) {}

  // Makes a source of `files`, which lie below `directory`. All of it or, after
  // an error, nothing. Returns the stored source for a repeated request and for
  // the same name and content; kAlreadyExists for the same name with other
  // content; kInvalidArgument (source_import.h) for files that break their
  // format, that are of both formats, or that hold no record.
  absl::StatusOr<SourceInfo> Import(const ImportRequest& request,
                                    const std::string& directory,
                                    std::vector<StoredFile> files,
                                    const CancelledFn& cancelled);

  // The records of a stored source, verified.
  absl::StatusOr<std::unique_ptr<SourceReader>> OpenRecords(
      const SourceInfo& source) const;

 private:
  // The part of Import that runs with the name locked and not seen before.
  absl::StatusOr<SourceInfo> Make(const ImportRequest& request,
                                  const RequestKey& key,
                                  const std::string& directory,
                                  std::vector<StoredFile> files,
                                  const CancelledFn& cancelled);

  const Options options_;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_SOURCE_STORE_H_
