// SPDX-License-Identifier: Apache-2.0
#include "services/inference/registry_client.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/file_fetch.h"
#include "common/rpc/status_translation.h"

namespace sinklora::inference {
namespace {

// A look-up stands in the way of every request: it is cheap or it is broken.
constexpr double kLookupTimeoutSeconds = 5;

Artifact ToArtifact(
    const std::string& name, const std::string& digest,
    const google::protobuf::RepeatedPtrField<common::v1::FileInfo>& files) {
  Artifact artifact;
  artifact.name = name;
  artifact.digest = digest;
  for (const common::v1::FileInfo& file : files) {
    artifact.files.push_back({file.path(), file.size_bytes(), file.sha256()});
  }
  return artifact;
}

std::vector<common::v1::FileInfo> ToFileInfos(const Artifact& artifact) {
  std::vector<common::v1::FileInfo> files;
  for (const ArtifactFile& file : artifact.files) {
    common::v1::FileInfo info;
    info.set_path(file.path);
    info.set_size_bytes(file.size_bytes);
    info.set_sha256(file.sha256);
    files.push_back(std::move(info));
  }
  return files;
}

// Both downloads: `method` of `stub` for the files of `artifact`.
template <typename Request, typename Response, typename Method>
absl::Status Fetch(
    const Artifact& artifact, const std::string& directory,
    registry::v1::RegistryService::Stub* stub, Method method,
    const std::function<absl::Status(const grpc::Status&)>& translate) {
  const auto call = [&](const std::vector<common::v1::FileOffset>& wanted,
                        const OnFileChunk& on_chunk) -> absl::Status {
    Request request;
    request.set_name(artifact.name);
    request.set_digest(artifact.digest);
    for (const auto& file : wanted) request.add_paths(file.path());
    request.mutable_offsets()->Assign(wanted.begin(), wanted.end());
    const auto context = MakeContext(kTransferTimeoutSeconds);
    const auto reader = (stub->*method)(context.get(), request);
    Response response;
    while (reader->Read(&response)) {
      const absl::Status accepted = on_chunk(response.chunk());
      if (!accepted.ok()) {
        context->TryCancel();
        (void)reader->Finish();
        return accepted;
      }
    }
    return translate(reader->Finish());
  };
  const absl::Status status =
      FetchFiles(directory, ToFileInfos(artifact), call);
  if (GetErrorDetail(status).reason == "CONTENT_CHANGED") {
    return absl::AbortedError(
        fmt::format("{} changed in the registry while it was fetched, try "
                    "again: {}",
                    artifact.name, std::string(status.message())));
  }
  return status;
}

}  // namespace

absl::StatusOr<std::shared_ptr<RegistryClient::Stub>>
RegistryClient::Connect() {
  const std::string address = address_();
  if (address.empty()) {
    return absl::UnavailableError("the registry has no address yet");
  }
  MutexLock lock(&mutex_);
  if (stub_ == nullptr || address != connected_address_) {
    stub_ = registry::v1::RegistryService::NewStub(MakeChannel(address));
    connected_address_ = address;
  }
  return stub_;
}

absl::Status RegistryClient::Translate(const grpc::Status& status) {
  const absl::Status translated = FromGrpc(status);
  if (absl::IsDeadlineExceeded(translated) || absl::IsUnavailable(translated)) {
    return MakeError(absl::StatusCode::kUnavailable,
                     fmt::format("registry at {} cannot be reached: {}",
                                 address_(), std::string(translated.message())),
                     {.reason = "REGISTRY_UNAVAILABLE", .metadata = {}});
  }
  return translated;
}

absl::StatusOr<Artifact> RegistryClient::GetModel(const std::string& name) {
  SL_ASSIGN_OR_RETURN(const std::shared_ptr<Stub> stub, Connect());
  registry::v1::GetModelRequest request;
  request.set_name(name);
  registry::v1::GetModelResponse response;
  const auto context = MakeContext(kLookupTimeoutSeconds);
  SL_RETURN_IF_ERROR(
      Translate(stub->GetModel(context.get(), request, &response)));
  const registry::v1::Model& model = response.model();
  return ToArtifact(model.name(), model.digest(), model.files());
}

absl::StatusOr<AdapterArtifact> RegistryClient::GetAdapter(
    const std::string& name) {
  SL_ASSIGN_OR_RETURN(const std::shared_ptr<Stub> stub, Connect());
  registry::v1::GetAdapterRequest request;
  request.set_name(name);
  registry::v1::GetAdapterResponse response;
  const auto context = MakeContext(kLookupTimeoutSeconds);
  SL_RETURN_IF_ERROR(
      Translate(stub->GetAdapter(context.get(), request, &response)));
  const registry::v1::Adapter& adapter = response.adapter();
  AdapterArtifact result;
  result.artifact =
      ToArtifact(adapter.name(), adapter.digest(), adapter.files());
  result.base_model = adapter.base_model();
  result.base_model_digest = adapter.base_model_digest();
  return result;
}

absl::Status RegistryClient::DownloadModel(const Artifact& model,
                                           const std::string& directory) {
  SL_ASSIGN_OR_RETURN(const std::shared_ptr<Stub> stub, Connect());
  return Fetch<registry::v1::DownloadModelRequest,
               registry::v1::DownloadModelResponse>(
      model, directory, stub.get(), &Stub::DownloadModel,
      [this](const grpc::Status& status) { return Translate(status); });
}

absl::Status RegistryClient::DownloadAdapter(const Artifact& adapter,
                                             const std::string& directory) {
  SL_ASSIGN_OR_RETURN(const std::shared_ptr<Stub> stub, Connect());
  return Fetch<registry::v1::DownloadAdapterRequest,
               registry::v1::DownloadAdapterResponse>(
      adapter, directory, stub.get(), &Stub::DownloadAdapter,
      [this](const grpc::Status& status) { return Translate(status); });
}

}  // namespace sinklora::inference
