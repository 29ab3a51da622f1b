// SPDX-License-Identifier: Apache-2.0
#include "services/cli/curator_client.h"

#include <utility>

#include "services/cli/rpc_call.h"
#include "sinklora/curator/v1/curator_service.grpc.pb.h"

namespace sinklora::cli {
namespace {

namespace v1 = curator::v1;
using Stub = v1::CuratorService::Stub;

class GrpcCuratorClient final : public CuratorClient {
 public:
  GrpcCuratorClient(const std::string& address, Interrupt* interrupt)
      : interrupt_(interrupt),
        stub_(v1::CuratorService::NewStub(MakeChannel(address))) {}

  absl::StatusOr<v1::Source> ImportSource(
      const v1::ImportSourceHeader& header, const Upload& upload,
      const std::function<void(int64_t)>& on_bytes) override {
    Call call(interrupt_, kTransferTimeoutSeconds);
    v1::ImportSourceResponse response;
    const auto writer = stub_->ImportSource(call.context(), &response);
    v1::ImportSourceRequest first;
    *first.mutable_header() = header;
    SL_RETURN_IF_ERROR(
        SendUpload(&call, writer.get(), first, upload, on_bytes));
    return std::move(*response.mutable_source());
  }

  absl::StatusOr<v1::Dataset> Curate(
      const v1::CurateRequest& request,
      const std::function<void(const v1::CurateProgress&)>& on_progress)
      override {
    Call call(interrupt_, kTransferTimeoutSeconds);
    v1::Dataset dataset;
    const auto reader = stub_->Curate(call.context(), request);
    SL_RETURN_IF_ERROR(ReadStream<v1::CurateResponse>(
        &call, reader.get(), [&](const v1::CurateResponse& response) {
          if (response.has_progress()) on_progress(response.progress());
          if (response.has_dataset()) dataset = response.dataset();
          return absl::OkStatus();
        }));
    if (dataset.name().empty()) {
      return absl::InternalError("Curate ended without a dataset");
    }
    return dataset;
  }

  absl::StatusOr<v1::Dataset> GetDataset(const std::string& name) override {
    v1::GetDatasetRequest request;
    request.set_name(name);
    SL_ASSIGN_OR_RETURN(auto response,
                        CallUnary<v1::GetDatasetResponse>(
                            interrupt_, kUnaryTimeoutSeconds, stub_.get(),
                            &Stub::GetDataset, request));
    return std::move(*response.mutable_dataset());
  }

  absl::StatusOr<std::vector<v1::Dataset>> ListDatasets() override {
    std::vector<v1::Dataset> datasets;
    v1::ListDatasetsRequest request;
    do {
      SL_ASSIGN_OR_RETURN(auto response,
                          CallUnary<v1::ListDatasetsResponse>(
                              interrupt_, kUnaryTimeoutSeconds, stub_.get(),
                              &Stub::ListDatasets, request));
      for (auto& dataset : *response.mutable_datasets()) {
        datasets.push_back(std::move(dataset));
      }
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return datasets;
  }

  absl::Status ExportDataset(
      const std::string& name,
      const std::function<absl::Status(const common::v1::FileChunk&)>& on_chunk)
      override {
    Call call(interrupt_, kTransferTimeoutSeconds);
    v1::ExportDatasetRequest request;
    request.set_name(name);
    const auto reader = stub_->ExportDataset(call.context(), request);
    return ReadStream<v1::ExportDatasetResponse>(
        &call, reader.get(), [&](const v1::ExportDatasetResponse& response) {
          return on_chunk(response.chunk());
        });
  }

 private:
  Interrupt* const interrupt_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::unique_ptr<CuratorClient> CuratorClient::Create(const std::string& address,
                                                     Interrupt* interrupt) {
  return std::make_unique<GrpcCuratorClient>(address, interrupt);
}

}  // namespace sinklora::cli
