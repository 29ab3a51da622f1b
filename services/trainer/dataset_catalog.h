// What the trainer asks the curator: one dataset by name. An interface, so
// that the job core knows no gRPC.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_DATASET_CATALOG_H_
#define SINKLORA_SERVICES_TRAINER_DATASET_CATALOG_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "sinklora/curator/v1/curator_service.pb.h"

namespace sinklora::trainer {

// Thread-safe.
class DatasetCatalog {
 public:
  virtual ~DatasetCatalog() = default;
  // kNotFound for an unknown name, kUnavailable when the curator is.
  virtual absl::StatusOr<curator::v1::Dataset> GetDataset(
      const std::string& name) = 0;
};

// Asks the CuratorService at `address()`, which is called for every request:
// in one process the port is known only after everything has started.
std::unique_ptr<DatasetCatalog> MakeCuratorCatalog(
    std::function<std::string()> address);

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_DATASET_CATALOG_H_
