// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/registry_service.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/handlers.h"
#include "services/trainer/download_plan.h"
#include "services/trainer/gguf_import.h"
#include "services/trainer/upload.h"
#include "sinklora/registry/v1/registry_service.grpc.pb.h"

namespace sinklora::trainer {
namespace {

using namespace registry::v1;  // NOLINT: message names fill this file

// Streams what `request` asks of an artefact whose files are in `dir`.
template <typename Response, typename Artefact, typename Request>
absl::Status StreamArtefact(const Artefact& artefact, const std::string& dir,
                            const Request& request,
                            StreamWriter<Response>* writer) {
  if (!request.digest().empty() && request.digest() != artefact.digest()) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        fmt::format("{} has digest {} now, not {}", artefact.name(),
                    artefact.digest(), request.digest()),
        {"CONTENT_CHANGED",
         {{"name", artefact.name()}, {"digest", artefact.digest()}}});
  }
  SL_ASSIGN_OR_RETURN(const auto plan,
                      PlanDownload(artefact.name(), artefact.files(),
                                   request.paths(), request.offsets()));
  return StreamFiles(dir, plan, writer, [](auto*) {});
}

class Service final : public RegistryService::CallbackService {
 public:
  explicit Service(const RegistryServiceOptions& options)
      : registry_(options.registry),
        jobs_(options.jobs),
        artifacts_(options.artifacts),
        import_root_(options.import_root),
        exporter_(options.exporter),
        rpc_{"RegistryService", options.executor, options.metrics} {}

  grpc::ServerReadReactor<ImportModelRequest>* ImportModel(
      grpc::CallbackServerContext* context,
      ImportModelResponse* response) override {
    return RunClientStream<ImportModelRequest, ImportModelResponse>(
        rpc_, "ImportModel", context, response,
        [this](const CallInfo& call, auto* reader, auto* resp) -> absl::Status {
          ImportModelRequest first;
          SL_RETURN_IF_ERROR(ReadHeader(reader, &first));
          SL_RETURN_IF_ERROR(ValidateId("header.name", first.header().name()));
          SL_ASSIGN_OR_RETURN(
              StagedFiles upload,
              ReceiveFiles(call, first.header().size(), reader, *artifacts_));
          return StoreModel(first.header(), std::move(upload),
                            resp->mutable_model());
        });
  }

  grpc::ServerUnaryReactor* ImportModelFromPath(
      grpc::CallbackServerContext* context,
      const ImportModelFromPathRequest* request,
      ImportModelFromPathResponse* response) override {
    return RunUnary<ImportModelFromPathRequest, ImportModelFromPathResponse>(
        rpc_, "ImportModelFromPath", context, request, response,
        [this](const CallInfo& call, const auto& req,
               auto* resp) -> absl::Status {
          SL_RETURN_IF_ERROR(ValidateId("name", req.name()));
          ImportModelHeader header;
          header.set_name(req.name());
          header.set_request_id(req.request_id());
          SL_ASSIGN_OR_RETURN(StagedFiles staged,
                              CopyFromPath(call, req.path()));
          return StoreModel(header, std::move(staged), resp->mutable_model());
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
          return StreamArtefact(model, artifacts_->ModelDir(model.digest()),
                                req, writer);
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
          SL_ASSIGN_OR_RETURN(
              const StagedFiles upload,
              ReceiveFiles(call, header.size(), reader, *artifacts_));
          SL_ASSIGN_OR_RETURN(
              *resp->mutable_adapter(),
              registry_->ImportAdapter(header, upload.path, upload.files));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* ImportAdapterFromPath(
      grpc::CallbackServerContext* context,
      const ImportAdapterFromPathRequest* request,
      ImportAdapterFromPathResponse* response) override {
    return RunUnary<ImportAdapterFromPathRequest,
                    ImportAdapterFromPathResponse>(
        rpc_, "ImportAdapterFromPath", context, request, response,
        [this](const CallInfo& call, const auto& req,
               auto* resp) -> absl::Status {
          SL_RETURN_IF_ERROR(ValidateId("name", req.name()));
          SL_RETURN_IF_ERROR(registry_->GetModel(req.base_model()).status());
          ImportAdapterHeader header;
          header.set_name(req.name());
          header.set_base_model(req.base_model());
          header.set_request_id(req.request_id());
          if (req.has_context()) *header.mutable_context() = req.context();
          SL_ASSIGN_OR_RETURN(const StagedFiles staged,
                              CopyFromPath(call, req.path()));
          SL_ASSIGN_OR_RETURN(
              *resp->mutable_adapter(),
              registry_->ImportAdapter(header, staged.path, staged.files));
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
          return StreamArtefact(
              adapter, artifacts_->AdapterDir(adapter.digest()), req, writer);
        });
  }

  grpc::ServerWriteReactor<ExportResponse>* Export(
      grpc::CallbackServerContext* context,
      const ExportRequest* request) override {
    return RunServerStream<ExportRequest, ExportResponse>(
        rpc_, "Export", context, request,
        [this](const CallInfo&, const auto& req, auto* writer) -> absl::Status {
          SL_ASSIGN_OR_RETURN(const auto exported, exporter_->Export(req));
          SL_ASSIGN_OR_RETURN(
              const auto plan,
              PlanDownload("the export", exported.summary.files(), req.paths(),
                           req.offsets()));
          ExportResponse first;
          *first.mutable_summary() = exported.summary;
          if (!writer->Write(first)) return absl::UnavailableError("peer gone");
          return StreamFiles(exported.path, plan, writer, [](auto*) {});
        });
  }

  grpc::ServerUnaryReactor* MergeAdapter(
      grpc::CallbackServerContext* context, const MergeAdapterRequest* request,
      MergeAdapterResponse* response) override {
    return RunUnary<MergeAdapterRequest, MergeAdapterResponse>(
        rpc_, "MergeAdapter", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp->mutable_model(), exporter_->Merge(req));
          return absl::OkStatus();
        });
  }

 private:
  absl::Status StoreModel(const ImportModelHeader& header, StagedFiles files,
                          Model* model) const {
    SL_ASSIGN_OR_RETURN(const StagedModel made,
                        ConvertGguf(std::move(files), *artifacts_));
    SL_ASSIGN_OR_RETURN(
        *model, registry_->ImportModel(header, made.staged.path,
                                       made.staged.files, made.lineage));
    return absl::OkStatus();
  }

  absl::StatusOr<StagedFiles> CopyFromPath(const CallInfo& call,
                                           const std::string& path) const {
    StagedFiles staged;
    SL_ASSIGN_OR_RETURN(staged.dir, artifacts_->NewStaging());
    staged.path = staged.dir->path();
    SL_ASSIGN_OR_RETURN(
        staged.files, import_root_->Copy(path, staged.path, artifacts_->disk(),
                                         *call.cancellation));
    return staged;
  }

  Registry* const registry_;
  JobManager* const jobs_;
  const ArtifactStore* const artifacts_;
  const ImportRoot* const import_root_;
  Exporter* const exporter_;
  const RpcContext rpc_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeRegistryService(
    const RegistryServiceOptions& options) {
  return std::make_unique<Service>(options);
}

}  // namespace sinklora::trainer
