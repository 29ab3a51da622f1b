// Makes the files of one export in an empty directory and verifies them.
// Stateless but for the backend that it verifies on; one call at a time.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_EXPORT_MAKER_H_
#define SINKLORA_SERVICES_TRAINER_EXPORT_MAKER_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "services/trainer/artifact_store.h"
#include "sinklora/registry/v1/registry_service.pb.h"

namespace sinklora::trainer {

// What an export is made of: an adapter and its base, or a model alone.
struct ExportSource {
  std::optional<registry::v1::Adapter> adapter;
  registry::v1::Model model;  // the adapter's base, when there is one
};

// kInvalidArgument naming the field unless `request` may be made.
absl::Status CheckExportRequest(const registry::v1::ExportRequest& request);

class ExportMaker {
 public:
  // Borrows both.
  ExportMaker(const ArtifactStore* artifacts, kernels::Backend* backend)
      : artifacts_(artifacts), backend_(backend) {}

  // Writes the export to directory `out`, which must not exist, and does not
  // after an error. The check is there when an adapter was merged or split.
  // kDataLoss when it fails, kResourceExhausted (STORAGE_LOW) without room.
  absl::StatusOr<std::optional<registry::v1::MergeCheck>> Make(
      const registry::v1::ExportRequest& request, const ExportSource& source,
      const std::string& out) const;

  // The adapter merged into its base.
  absl::StatusOr<registry::v1::MergeCheck> Merge(const ExportSource& source,
                                                 const std::string& out) const;

 private:
  absl::StatusOr<registry::v1::MergeCheck> Split(const ExportSource& source,
                                                 const std::string& out) const;

  const ArtifactStore* const artifacts_;
  kernels::Backend* const backend_;
};

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_EXPORT_MAKER_H_
