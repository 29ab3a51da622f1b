// Names and metadata of sources and datasets in the store, each written in one
// batch with the request that made it.
//
// Keys: source/<name>, dataset/<name>, and those of the request log.
//
// Thread-safe; two writers of one name must be kept apart by the caller
// (NameLocks). Borrows the store.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_CATALOG_H_
#define SINKLORA_SERVICES_CURATOR_CATALOG_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/store/request_log.h"
#include "common/store/store.h"
#include "services/curator/types.h"

namespace sinklora::curator {

// Identifies a mutating call, see RequestLog.
struct RequestKey {
  std::string method;
  std::string request_id;
  std::string fingerprint;
};

class Catalog {
 public:
  Catalog(Store* store, Clock* clock)
      : store_(store), request_log_(store, clock) {}

  // kNotFound naming the source or dataset.
  absl::StatusOr<SourceInfo> GetSource(const std::string& name);
  absl::StatusOr<DatasetInfo> GetDataset(const std::string& name);
  // Those with names > `after`, at most `limit`, by name.
  absl::StatusOr<std::vector<SourceInfo>> ListSources(const std::string& after,
                                                      int limit);
  absl::StatusOr<std::vector<DatasetInfo>> ListDatasets(
      const std::string& after, int limit);

  // What the call returned when it was first made; nullopt when it is new.
  absl::StatusOr<std::optional<SourceInfo>> FindImport(const RequestKey& key);
  absl::StatusOr<std::optional<DatasetInfo>> FindCurate(const RequestKey& key);
  // Durable when they return. Repeating a name with an equal value is harmless.
  absl::Status PutSource(const SourceInfo& source, const RequestKey& key);
  absl::Status PutDataset(const DatasetInfo& dataset, const RequestKey& key);

 private:
  absl::Status Put(const std::string& key, const std::string& value,
                   const RequestKey& request);

  Store* const store_;
  RequestLog request_log_;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_CATALOG_H_
