// SPDX-License-Identifier: Apache-2.0
#include "tests/services/inference/fake_registry.h"

#include <string>
#include <utility>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/status_translation.h"

namespace sinklora::inference {
namespace {

// Model and Adapter share these fields.
template <typename Message>
void FillArtifact(const Artifact& artifact, Message* message) {
  message->set_name(artifact.name);
  message->set_digest(artifact.digest);
  for (const ArtifactFile& file : artifact.files) {
    common::v1::FileInfo* info = message->add_files();
    info->set_path(file.path);
    info->set_size_bytes(file.size_bytes);
    info->set_sha256(file.sha256);
  }
}

template <typename Response>
absl::Status Send(const DirectorySource& source, const std::string& name,
                  grpc::ServerWriter<Response>* writer) {
  SL_ASSIGN_OR_RETURN(const std::string directory, source.DirectoryOf(name));
  SL_ASSIGN_OR_RETURN(const auto files, ListFilesRecursive(directory));
  return SendFiles(directory, files, [&](common::v1::FileChunk chunk) {
    Response response;
    *response.mutable_chunk() = std::move(chunk);
    return writer->Write(response);
  });
}

}  // namespace

grpc::Status FakeRegistry::GetModel(
    grpc::ServerContext*, const registry::v1::GetModelRequest* request,
    registry::v1::GetModelResponse* response) {
  const auto model = source_->GetModel(request->name());
  if (!model.ok()) return ToGrpc(model.status());
  FillArtifact(*model, response->mutable_model());
  return grpc::Status::OK;
}

grpc::Status FakeRegistry::GetAdapter(
    grpc::ServerContext*, const registry::v1::GetAdapterRequest* request,
    registry::v1::GetAdapterResponse* response) {
  const auto adapter = source_->GetAdapter(request->name());
  if (!adapter.ok()) return ToGrpc(adapter.status());
  FillArtifact(adapter->artifact, response->mutable_adapter());
  response->mutable_adapter()->set_base_model(adapter->base_model);
  response->mutable_adapter()->set_base_model_digest(
      adapter->base_model_digest);
  return grpc::Status::OK;
}

grpc::Status FakeRegistry::DownloadModel(
    grpc::ServerContext*, const registry::v1::DownloadModelRequest* request,
    grpc::ServerWriter<registry::v1::DownloadModelResponse>* writer) {
  return ToGrpc(Send(*source_, request->name(), writer));
}

grpc::Status FakeRegistry::DownloadAdapter(
    grpc::ServerContext*, const registry::v1::DownloadAdapterRequest* request,
    grpc::ServerWriter<registry::v1::DownloadAdapterResponse>* writer) {
  return ToGrpc(Send(*source_, request->name(), writer));
}

}  // namespace sinklora::inference
