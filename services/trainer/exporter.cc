// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/exporter.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/model/device.h"
#include "kernels/backend.h"
#include "services/trainer/artifact_checks.h"
#include "services/trainer/export_maker.h"
#include "services/trainer/rows.h"

namespace sinklora::trainer {

using registry::v1::Adapter;
using registry::v1::ExportRequest;
using registry::v1::Model;

namespace {

absl::StatusOr<ExportSource> SourceOfAdapter(Registry* registry,
                                             const std::string& name) {
  ExportSource source;
  SL_ASSIGN_OR_RETURN(source.adapter, registry->GetAdapter(name));
  SL_ASSIGN_OR_RETURN(source.model,
                      registry->GetModel(source.adapter->base_model()));
  return source;
}

absl::StatusOr<ExportSource> SourceOf(Registry* registry,
                                      const ExportRequest& request) {
  if (request.has_adapter()) {
    return SourceOfAdapter(registry, request.adapter());
  }
  ExportSource source;
  SL_ASSIGN_OR_RETURN(source.model, registry->GetModel(request.model()));
  return source;
}

absl::StatusOr<std::unique_ptr<kernels::Backend>> OpenBackend(
    const Exporter::Options& options) {
  return OpenDevice("export", options.device, {.num_threads = options.threads},
                    options.metrics);
}

}  // namespace

class Exporter::Turn {
 public:
  explicit Turn(Exporter* exporter) : exporter_(exporter) {}
  ~Turn() {
    MutexLock lock(&exporter_->mutex_);
    exporter_->busy_ = false;
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Exporter* const exporter_;
};

absl::StatusOr<std::unique_ptr<Exporter::Turn>> Exporter::TakeTurn() {
  MutexLock lock(&mutex_);
  if (busy_) {
    return MakeError(absl::StatusCode::kResourceExhausted,
                     "another export or merge is being made; try again later",
                     {"EXPORT_BUSY", {}});
  }
  busy_ = true;
  return std::make_unique<Turn>(this);
}

absl::StatusOr<Exporter::Exported> Exporter::Export(
    const ExportRequest& request) {
  SL_RETURN_IF_ERROR(CheckExportRequest(request));
  SL_ASSIGN_OR_RETURN(const ExportSource source,
                      SourceOf(options_.registry, request));
  SL_ASSIGN_OR_RETURN(const auto turn, TakeTurn());
  SL_ASSIGN_OR_RETURN(const auto backend, OpenBackend(options_));
  Exported exported;
  SL_ASSIGN_OR_RETURN(exported.dir, options_.artifacts->NewStaging());
  exported.path = JoinPath(exported.dir->path(), "export");
  const ExportMaker maker(options_.artifacts, backend.get());
  SL_ASSIGN_OR_RETURN(auto check, maker.Make(request, source, exported.path));
  if (check) *exported.summary.mutable_merge_check() = *std::move(check);
  SL_ASSIGN_OR_RETURN(const FileInfos files, DescribeFiles(exported.path));
  exported.summary.set_digest(ContentDigest(files));
  exported.summary.mutable_files()->Assign(files.begin(), files.end());
  if (!request.digest().empty() &&
      request.digest() != exported.summary.digest()) {
    return MakeError(
        absl::StatusCode::kAborted,
        fmt::format("the export has digest {} now, not {}: what it is made of "
                    "has changed, start again",
                    exported.summary.digest(), request.digest()),
        {"EXPORT_CHANGED", {{"digest", exported.summary.digest()}}});
  }
  return exported;
}

absl::StatusOr<Model> Exporter::Merge(
    const registry::v1::MergeAdapterRequest& request) {
  SL_RETURN_IF_ERROR(ValidateId("model_name", request.model_name()));
  SL_ASSIGN_OR_RETURN(const ExportSource source,
                      SourceOfAdapter(options_.registry, request.adapter()));
  SL_ASSIGN_OR_RETURN(auto before,
                      options_.registry->FindMerged(request, *source.adapter));
  if (before) return *std::move(before);
  SL_ASSIGN_OR_RETURN(const auto turn, TakeTurn());
  SL_ASSIGN_OR_RETURN(const auto backend, OpenBackend(options_));
  SL_ASSIGN_OR_RETURN(const auto staging, options_.artifacts->NewStaging());
  const std::string dir = JoinPath(staging->path(), "model");
  const ExportMaker maker(options_.artifacts, backend.get());
  SL_ASSIGN_OR_RETURN(const auto check, maker.Merge(source, dir));
  SL_ASSIGN_OR_RETURN(const FileInfos files, DescribeFiles(dir));
  SL_ASSIGN_OR_RETURN(Model model, CheckModel(dir, files));
  model.set_name(request.model_name());
  model.set_base_model(source.model.name());
  model.set_base_model_digest(source.model.digest());
  *model.mutable_create_time() = ToTimestamp(options_.clock->WallMicros());
  registry::v1::Lineage& lineage = *model.mutable_lineage();
  lineage = source.adapter->lineage();
  lineage.set_adapter(source.adapter->name());
  lineage.set_adapter_digest(source.adapter->digest());
  *lineage.mutable_merge_check() = check;
  return options_.registry->CommitMerged(request, std::move(model), dir);
}

}  // namespace sinklora::trainer
