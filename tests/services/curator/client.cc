// SPDX-License-Identifier: Apache-2.0
#include "tests/services/curator/client.h"

#include <utility>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/status_translation.h"
#include "common/rpc/upload_receiver.h"

namespace sinklora::curator {

CuratorClient::CuratorClient(const std::string& address)
    : stub_(v1::CuratorService::NewStub(MakeChannel(address))) {}

absl::StatusOr<v1::Source> CuratorClient::Import(
    const std::string& name, const Files& files,
    const std::string& request_id) {
  const auto local = TempDir::Create();
  SL_RETURN_IF_ERROR(local.status());
  SL_RETURN_IF_ERROR(WriteFiles((*local)->path(), files).status());
  v1::ImportSourceResponse response;
  const auto context = MakeContext(kTimeoutSeconds);
  const auto writer = stub_->ImportSource(context.get(), &response);
  v1::ImportSourceRequest message;
  message.mutable_header()->set_name(name);
  message.mutable_header()->set_request_id(request_id);
  SL_ASSIGN_OR_RETURN(const auto paths, ListFilesRecursive((*local)->path()));
  SL_ASSIGN_OR_RETURN(*message.mutable_header()->mutable_size(),
                      MeasureFiles((*local)->path(), paths));
  writer->Write(message);
  // A refused upload fails to write; Finish has the reason.
  (void)SendFiles((*local)->path(), paths, [&](common::v1::FileChunk chunk) {
    v1::ImportSourceRequest part;
    *part.mutable_chunk() = std::move(chunk);
    return writer->Write(part);
  });
  writer->WritesDone();
  SL_RETURN_IF_ERROR(FromGrpc(writer->Finish()));
  return response.source();
}

v1::CurateRequest RequestOf(const std::string& name, const std::string& source,
                            const std::string& request_id) {
  v1::CurateRequest request;
  request.set_name(name);
  request.set_request_id(request_id);
  request.mutable_recipe()->add_sources(source);
  request.mutable_recipe()->set_tokenizer_model("tiny");
  request.mutable_recipe()->set_context_tokens(64);
  request.mutable_recipe()->set_validation_fraction(0);
  return request;
}

absl::StatusOr<v1::Dataset> CuratorClient::Curate(
    const v1::CurateRequest& request, std::vector<std::string>* stages) {
  const auto context = MakeContext(kTimeoutSeconds);
  const auto reader = stub_->Curate(context.get(), request);
  v1::CurateResponse response;
  std::vector<v1::Dataset> datasets;
  while (reader->Read(&response)) {
    if (response.has_dataset()) datasets.push_back(response.dataset());
    if (response.has_progress() && stages != nullptr) {
      EXPECT_TRUE(datasets.empty()) << "progress after the dataset";
      EXPECT_LE(response.progress().done_records(),
                response.progress().total_records());
      stages->push_back(response.progress().stage());
    }
  }
  SL_RETURN_IF_ERROR(FromGrpc(reader->Finish()));
  EXPECT_EQ(datasets.size(), 1u);
  return datasets.at(0);
}

absl::StatusOr<v1::Dataset> CuratorClient::GetDataset(const std::string& name) {
  v1::GetDatasetRequest request;
  request.set_name(name);
  v1::GetDatasetResponse response;
  const auto context = MakeContext(kTimeoutSeconds);
  SL_RETURN_IF_ERROR(
      FromGrpc(stub_->GetDataset(context.get(), request, &response)));
  return response.dataset();
}

absl::StatusOr<std::vector<v1::StreamExamplesResponse>> CuratorClient::Stream(
    const v1::StreamExamplesRequest& request) {
  const auto context = MakeContext(kTimeoutSeconds);
  const auto reader = stub_->StreamExamples(context.get(), request);
  std::vector<v1::StreamExamplesResponse> responses;
  v1::StreamExamplesResponse response;
  while (reader->Read(&response)) responses.push_back(response);
  SL_RETURN_IF_ERROR(FromGrpc(reader->Finish()));
  return responses;
}

}  // namespace sinklora::curator
