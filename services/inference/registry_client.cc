// SPDX-License-Identifier: Apache-2.0
#include "services/inference/registry_client.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/file_transfer.h"
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

// Receives a download into `directory`. The stream's own status outranks what
// the receiver says of a stream that was cut.
template <typename Reader, typename Response>
absl::Status Receive(
    Reader* reader, Response response, const std::string& directory,
    const std::function<absl::Status(const grpc::Status&)>& translate,
    grpc::ClientContext* context) {
  FileReceiver receiver(directory, std::numeric_limits<int64_t>::max());
  while (reader->Read(&response)) {
    const absl::Status accepted = receiver.Accept(response.chunk());
    if (!accepted.ok()) {
      context->TryCancel();
      (void)reader->Finish();
      return accepted;
    }
  }
  SL_RETURN_IF_ERROR(translate(reader->Finish()));
  return receiver.Finish();
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

absl::Status RegistryClient::DownloadModel(const std::string& name,
                                           const std::string& directory) {
  SL_ASSIGN_OR_RETURN(const std::shared_ptr<Stub> stub, Connect());
  registry::v1::DownloadModelRequest request;
  request.set_name(name);
  const auto context = MakeContext(kTransferTimeoutSeconds);
  const auto reader = stub->DownloadModel(context.get(), request);
  return Receive(
      reader.get(), registry::v1::DownloadModelResponse(), directory,
      [this](const grpc::Status& status) { return Translate(status); },
      context.get());
}

absl::Status RegistryClient::DownloadAdapter(const std::string& name,
                                             const std::string& directory) {
  SL_ASSIGN_OR_RETURN(const std::shared_ptr<Stub> stub, Connect());
  registry::v1::DownloadAdapterRequest request;
  request.set_name(name);
  const auto context = MakeContext(kTransferTimeoutSeconds);
  const auto reader = stub->DownloadAdapter(context.get(), request);
  return Receive(
      reader.get(), registry::v1::DownloadAdapterResponse(), directory,
      [this](const grpc::Status& status) { return Translate(status); },
      context.get());
}

}  // namespace sinklora::inference
