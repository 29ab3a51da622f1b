// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/registry_service.h"

#include <fmt/format.h>

#include <set>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/handlers.h"
#include "services/trainer/upload.h"
#include "sinklora/registry/v1/registry_service.grpc.pb.h"

namespace sinklora::trainer {
namespace {

using namespace registry::v1;  // NOLINT: message names fill this file

// The paths of `wanted`, or all of `artefact` when none is wanted.
template <typename Artefact, typename Wanted>
absl::StatusOr<std::vector<std::string>> PickPaths(const Artefact& artefact,
                                                   const Wanted& wanted) {
  std::set<std::string> stored;
  for (const auto& file : artefact.files()) stored.insert(file.path());
  std::set<std::string> picked(wanted.begin(), wanted.end());
  for (const std::string& path : picked) {
    if (stored.contains(path)) continue;
    return MakeError(
        absl::StatusCode::kNotFound,
        fmt::format("{} has no file {}", artefact.name(), path),
        {"FILE_NOT_FOUND", {{"name", artefact.name()}, {"path", path}}});
  }
  const auto& paths = picked.empty() ? stored : picked;
  return std::vector<std::string>(paths.begin(), paths.end());
}

class Service final : public RegistryService::CallbackService {
 public:
  Service(Registry* registry, JobManager* jobs, const ArtifactStore* artifacts,
          Executor* executor, MetricsRegistry* metrics)
      : registry_(registry),
        jobs_(jobs),
        artifacts_(artifacts),
        rpc_{"RegistryService", executor, metrics} {}

  grpc::ServerReadReactor<ImportModelRequest>* ImportModel(
      grpc::CallbackServerContext* context,
      ImportModelResponse* response) override {
    return RunClientStream<ImportModelRequest, ImportModelResponse>(
        rpc_, "ImportModel", context, response,
        [this](const CallInfo& call, auto* reader, auto* resp) -> absl::Status {
          ImportModelRequest first;
          SL_RETURN_IF_ERROR(ReadHeader(reader, &first));
          SL_RETURN_IF_ERROR(ValidateId("header.name", first.header().name()));
          SL_ASSIGN_OR_RETURN(const StagedUpload upload,
                              ReceiveFiles(call, reader, *artifacts_));
          SL_ASSIGN_OR_RETURN(
              *resp->mutable_model(),
              registry_->ImportModel(first.header(), upload.dir->path(),
                                     upload.files));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const GetModelRequest* request,
                                     GetModelResponse* response) override {
    return RunUnary<GetModelRequest, GetModelResponse>(
        rpc_, "GetModel", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp->mutable_model(),
                              registry_->GetModel(req.name()));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const ListModelsRequest* request,
                                       ListModelsResponse* response) override {
    return RunUnary<ListModelsRequest, ListModelsResponse>(
        rpc_, "ListModels", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp, registry_->ListModels(req));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* DeleteModel(
      grpc::CallbackServerContext* context, const DeleteModelRequest* request,
      DeleteModelResponse* response) override {
    return RunUnary<DeleteModelRequest, DeleteModelResponse>(
        rpc_, "DeleteModel", context, request, response,
        [this](const CallInfo&, const auto& req, auto*) {
          return jobs_->DeleteModel(req);
        });
  }

  grpc::ServerWriteReactor<DownloadModelResponse>* DownloadModel(
      grpc::CallbackServerContext* context,
      const DownloadModelRequest* request) override {
    return RunServerStream<DownloadModelRequest, DownloadModelResponse>(
        rpc_, "DownloadModel", context, request,
        [this](const CallInfo&, const auto& req, auto* writer) -> absl::Status {
          SL_ASSIGN_OR_RETURN(const auto model,
                              registry_->GetModel(req.name()));
          SL_ASSIGN_OR_RETURN(const auto paths, PickPaths(model, req.paths()));
          return StreamFiles(artifacts_->ModelDir(model.digest()), paths,
                             writer, [](auto*) {});
        });
  }

  grpc::ServerReadReactor<ImportAdapterRequest>* ImportAdapter(
      grpc::CallbackServerContext* context,
      ImportAdapterResponse* response) override {
    return RunClientStream<ImportAdapterRequest, ImportAdapterResponse>(
        rpc_, "ImportAdapter", context, response,
        [this](const CallInfo& call, auto* reader, auto* resp) -> absl::Status {
          ImportAdapterRequest first;
          SL_RETURN_IF_ERROR(ReadHeader(reader, &first));
          const auto& header = first.header();
          SL_RETURN_IF_ERROR(ValidateId("header.name", header.name()));
          SL_RETURN_IF_ERROR(registry_->GetModel(header.base_model()).status());
          SL_ASSIGN_OR_RETURN(const StagedUpload upload,
                              ReceiveFiles(call, reader, *artifacts_));
          SL_ASSIGN_OR_RETURN(*resp->mutable_adapter(),
                              registry_->ImportAdapter(
                                  header, upload.dir->path(), upload.files));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* GetAdapter(grpc::CallbackServerContext* context,
                                       const GetAdapterRequest* request,
                                       GetAdapterResponse* response) override {
    return RunUnary<GetAdapterRequest, GetAdapterResponse>(
        rpc_, "GetAdapter", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp->mutable_adapter(),
                              registry_->GetAdapter(req.name()));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* ListAdapters(
      grpc::CallbackServerContext* context, const ListAdaptersRequest* request,
      ListAdaptersResponse* response) override {
    return RunUnary<ListAdaptersRequest, ListAdaptersResponse>(
        rpc_, "ListAdapters", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp, registry_->ListAdapters(req));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* DeleteAdapter(
      grpc::CallbackServerContext* context, const DeleteAdapterRequest* request,
      DeleteAdapterResponse* response) override {
    return RunUnary<DeleteAdapterRequest, DeleteAdapterResponse>(
        rpc_, "DeleteAdapter", context, request, response,
        [this](const CallInfo&, const auto& req, auto*) {
          return registry_->DeleteAdapter(req);
        });
  }

  grpc::ServerWriteReactor<DownloadAdapterResponse>* DownloadAdapter(
      grpc::CallbackServerContext* context,
      const DownloadAdapterRequest* request) override {
    return RunServerStream<DownloadAdapterRequest, DownloadAdapterResponse>(
        rpc_, "DownloadAdapter", context, request,
        [this](const CallInfo&, const auto& req, auto* writer) -> absl::Status {
          SL_ASSIGN_OR_RETURN(const auto adapter,
                              registry_->GetAdapter(req.name()));
          SL_ASSIGN_OR_RETURN(const auto paths,
                              PickPaths(adapter, req.paths()));
          return StreamFiles(artifacts_->AdapterDir(adapter.digest()), paths,
                             writer, [](auto*) {});
        });
  }

  grpc::ServerWriteReactor<ExportMergedModelResponse>* ExportMergedModel(
      grpc::CallbackServerContext* context,
      const ExportMergedModelRequest* request) override {
    return RunServerStream<ExportMergedModelRequest, ExportMergedModelResponse>(
        rpc_, "ExportMergedModel", context, request,
        [this](const CallInfo&, const auto& req, auto* writer) -> absl::Status {
          SL_RETURN_IF_ERROR(artifacts_->disk()->CheckRoom());
          SL_ASSIGN_OR_RETURN(const auto dir, artifacts_->NewStaging());
          SL_RETURN_IF_ERROR(
              registry_->ExportMerged(req.adapter(), dir->path()));
          SL_ASSIGN_OR_RETURN(const auto paths,
                              ListFilesRecursive(dir->path()));
          return StreamFiles(dir->path(), paths, writer, [](auto*) {});
        });
  }

 private:
  Registry* const registry_;
  JobManager* const jobs_;
  const ArtifactStore* const artifacts_;
  const RpcContext rpc_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeRegistryService(
    Registry* registry, JobManager* jobs, const ArtifactStore* artifacts,
    Executor* executor, MetricsRegistry* metrics) {
  return std::make_unique<Service>(registry, jobs, artifacts, executor,
                                   metrics);
}

}  // namespace sinklora::trainer
