// SPDX-License-Identifier: Apache-2.0
#include "services/cli/registry_client.h"

#include <utility>

#include "services/cli/rpc_call.h"
#include "sinklora/registry/v1/registry_service.grpc.pb.h"

namespace sinklora::cli {
namespace {

namespace v1 = registry::v1;
using Stub = v1::RegistryService::Stub;

class GrpcExportStream final : public ExportStream {
 public:
  GrpcExportStream(Interrupt* interrupt, Stub* stub,
                   const v1::ExportRequest& request)
      : call_(interrupt, kTransferTimeoutSeconds),
        reader_(stub->Export(call_.context(), request)) {}
  ~GrpcExportStream() override {
    if (finished_) return;
    call_.context()->TryCancel();
    reader_->Finish().ok();  // its only news is the cancellation
  }

  absl::Status ReadSummary() {
    v1::ExportResponse first;
    if (!reader_->Read(&first)) {
      finished_ = true;
      SL_RETURN_IF_ERROR(FromGrpc(reader_->Finish()));
      return absl::InternalError("the export ended before its summary");
    }
    if (!first.has_summary()) {
      return absl::InternalError("the export does not begin with its summary");
    }
    summary_ = std::move(*first.mutable_summary());
    return absl::OkStatus();
  }

  const v1::ExportSummary& summary() const override { return summary_; }
  absl::Status Read(
      const std::function<absl::Status(const common::v1::FileChunk&)>& on_chunk)
      override {
    finished_ = true;
    return ReadStream<v1::ExportResponse>(
        &call_, reader_.get(), [&](const v1::ExportResponse& response) {
          return on_chunk(response.chunk());
        });
  }

 private:
  Call call_;
  const std::unique_ptr<grpc::ClientReader<v1::ExportResponse>> reader_;
  v1::ExportSummary summary_;
  bool finished_ = false;
};

class GrpcRegistryClient final : public RegistryClient {
 public:
  GrpcRegistryClient(const std::string& address, Interrupt* interrupt)
      : interrupt_(interrupt),
        stub_(v1::RegistryService::NewStub(MakeChannel(address))) {}

  absl::StatusOr<v1::Model> ImportModel(const v1::ImportModelHeader& header,
                                        const Upload& upload,
                                        const OnBytes& on_bytes) override {
    Call call(interrupt_, kTransferTimeoutSeconds);
    v1::ImportModelResponse response;
    const auto writer = stub_->ImportModel(call.context(), &response);
    v1::ImportModelRequest first;
    *first.mutable_header() = header;
    SL_RETURN_IF_ERROR(
        SendUpload(&call, writer.get(), first, upload, on_bytes));
    return std::move(*response.mutable_model());
  }

  absl::StatusOr<v1::Adapter> ImportAdapter(
      const v1::ImportAdapterHeader& header, const Upload& upload,
      const OnBytes& on_bytes) override {
    Call call(interrupt_, kTransferTimeoutSeconds);
    v1::ImportAdapterResponse response;
    const auto writer = stub_->ImportAdapter(call.context(), &response);
    v1::ImportAdapterRequest first;
    *first.mutable_header() = header;
    SL_RETURN_IF_ERROR(
        SendUpload(&call, writer.get(), first, upload, on_bytes));
    return std::move(*response.mutable_adapter());
  }

  absl::StatusOr<v1::Model> GetModel(const std::string& name) override {
    v1::GetModelRequest request;
    request.set_name(name);
    SL_ASSIGN_OR_RETURN(auto response,
                        Unary<v1::GetModelResponse>(&Stub::GetModel, request));
    return std::move(*response.mutable_model());
  }

  absl::StatusOr<v1::Adapter> GetAdapter(const std::string& name) override {
    v1::GetAdapterRequest request;
    request.set_name(name);
    SL_ASSIGN_OR_RETURN(auto response, Unary<v1::GetAdapterResponse>(
                                           &Stub::GetAdapter, request));
    return std::move(*response.mutable_adapter());
  }

  absl::StatusOr<std::vector<v1::Model>> ListModels() override {
    std::vector<v1::Model> models;
    v1::ListModelsRequest request;
    do {
      SL_ASSIGN_OR_RETURN(auto response, Unary<v1::ListModelsResponse>(
                                             &Stub::ListModels, request));
      for (auto& model : *response.mutable_models()) {
        models.push_back(std::move(model));
      }
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return models;
  }

  absl::StatusOr<std::vector<v1::Adapter>> ListAdapters() override {
    std::vector<v1::Adapter> adapters;
    v1::ListAdaptersRequest request;
    do {
      SL_ASSIGN_OR_RETURN(auto response, Unary<v1::ListAdaptersResponse>(
                                             &Stub::ListAdapters, request));
      for (auto& adapter : *response.mutable_adapters()) {
        adapters.push_back(std::move(adapter));
      }
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return adapters;
  }

  absl::StatusOr<v1::Model> ImportModelFromPath(
      const v1::ImportModelFromPathRequest& request) override {
    SL_ASSIGN_OR_RETURN(auto response,
                        CallUnary<v1::ImportModelFromPathResponse>(
                            interrupt_, kTransferTimeoutSeconds, stub_.get(),
                            &Stub::ImportModelFromPath, request));
    return std::move(*response.mutable_model());
  }

  absl::StatusOr<v1::Adapter> ImportAdapterFromPath(
      const v1::ImportAdapterFromPathRequest& request) override {
    SL_ASSIGN_OR_RETURN(auto response,
                        CallUnary<v1::ImportAdapterFromPathResponse>(
                            interrupt_, kTransferTimeoutSeconds, stub_.get(),
                            &Stub::ImportAdapterFromPath, request));
    return std::move(*response.mutable_adapter());
  }

  absl::Status DownloadModel(const v1::Model& model,
                             const std::vector<common::v1::FileOffset>& wanted,
                             const OnChunk& on_chunk) override {
    return Download<v1::DownloadModelResponse>(
        &Stub::DownloadModel, PartsOf<v1::DownloadModelRequest>(model, wanted),
        on_chunk);
  }

  absl::Status DownloadAdapter(
      const v1::Adapter& adapter,
      const std::vector<common::v1::FileOffset>& wanted,
      const OnChunk& on_chunk) override {
    return Download<v1::DownloadAdapterResponse>(
        &Stub::DownloadAdapter,
        PartsOf<v1::DownloadAdapterRequest>(adapter, wanted), on_chunk);
  }

  absl::StatusOr<std::unique_ptr<ExportStream>> Export(
      const v1::ExportRequest& request) override {
    auto stream =
        std::make_unique<GrpcExportStream>(interrupt_, stub_.get(), request);
    SL_RETURN_IF_ERROR(stream->ReadSummary());
    return stream;
  }

  absl::StatusOr<v1::Model> MergeAdapter(
      const v1::MergeAdapterRequest& request) override {
    SL_ASSIGN_OR_RETURN(auto response,
                        CallUnary<v1::MergeAdapterResponse>(
                            interrupt_, kTransferTimeoutSeconds, stub_.get(),
                            &Stub::MergeAdapter, request));
    return std::move(*response.mutable_model());
  }

 private:
  template <typename Request, typename Artefact>
  static Request PartsOf(const Artefact& artefact,
                         const std::vector<common::v1::FileOffset>& wanted) {
    Request request;
    request.set_name(artefact.name());
    request.set_digest(artefact.digest());
    for (const auto& file : wanted) request.add_paths(file.path());
    request.mutable_offsets()->Assign(wanted.begin(), wanted.end());
    return request;
  }

  template <typename Response, typename Request>
  absl::StatusOr<Response> Unary(
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      const Request& request) {
    return CallUnary<Response>(interrupt_, kUnaryTimeoutSeconds, stub_.get(),
                               method, request);
  }

  template <typename Response, typename Request>
  absl::Status Download(std::unique_ptr<grpc::ClientReader<Response>> (
                            Stub::*method)(grpc::ClientContext*,
                                           const Request&),
                        const Request& request, const OnChunk& on_chunk) {
    Call call(interrupt_, kTransferTimeoutSeconds);
    const auto reader = (stub_.get()->*method)(call.context(), request);
    return ReadStream<Response>(
        &call, reader.get(),
        [&](const Response& response) { return on_chunk(response.chunk()); });
  }

  Interrupt* const interrupt_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::unique_ptr<RegistryClient> RegistryClient::Create(
    const std::string& address, Interrupt* interrupt) {
  return std::make_unique<GrpcRegistryClient>(address, interrupt);
}

}  // namespace sinklora::cli
