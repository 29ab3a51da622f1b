// SPDX-License-Identifier: Apache-2.0
#include "services/curator/registry_client.h"

#include <fmt/format.h>

#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/status_translation.h"
#include "sinklora/registry/v1/registry_service.grpc.pb.h"

namespace sinklora::curator {
namespace {

// Tokenizers have some megabytes; a model's weights are never asked for.
constexpr int64_t kMaxTokenizerBytes = int64_t{256} << 20;

absl::Status FromRegistry(const grpc::Status& status, const std::string& name) {
  return Annotate(FromGrpc(status),
                  fmt::format("registry, model \"{}\"", name));
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> RegistryClient::Channel() {
  const std::string address = address_();
  if (address.empty()) {
    return MakeError(absl::StatusCode::kUnavailable,
                     "the address of the model registry is not known yet",
                     {"REGISTRY_UNKNOWN", {}});
  }
  MutexLock lock(&mutex_);
  if (channel_ == nullptr || channel_address_ != address) {
    channel_ = MakeChannel(address);
    channel_address_ = address;
  }
  return channel_;
}

absl::StatusOr<ModelSource::Model> RegistryClient::Describe(
    const std::string& name) {
  SL_ASSIGN_OR_RETURN(const auto channel, Channel());
  const auto stub = registry::v1::RegistryService::NewStub(channel);
  registry::v1::GetModelRequest request;
  request.set_name(name);
  registry::v1::GetModelResponse response;
  const auto context = MakeContext(kUnaryTimeoutSeconds);
  SL_RETURN_IF_ERROR(
      FromRegistry(stub->GetModel(context.get(), request, &response), name));
  Model model;
  model.tokenizer_digest = response.model().tokenizer_digest();
  for (const auto& file : response.model().files()) {
    model.files.push_back({file.path(), file.size_bytes(), file.sha256()});
  }
  return model;
}

absl::Status RegistryClient::Download(const std::string& name,
                                      const std::vector<std::string>& paths,
                                      const std::string& directory,
                                      const CancelledFn& cancelled) {
  SL_ASSIGN_OR_RETURN(const auto channel, Channel());
  const auto stub = registry::v1::RegistryService::NewStub(channel);
  registry::v1::DownloadModelRequest request;
  request.set_name(name);
  request.mutable_paths()->Assign(paths.begin(), paths.end());
  const auto context = MakeContext(kTransferTimeoutSeconds);
  const auto reader = stub->DownloadModel(context.get(), request);
  FileReceiver receiver(directory, kMaxTokenizerBytes);
  registry::v1::DownloadModelResponse response;
  absl::Status received;
  while (received.ok() && reader->Read(&response)) {
    received = cancelled() ? absl::CancelledError("download was cancelled")
                           : receiver.Accept(response.chunk());
  }
  if (!received.ok()) context->TryCancel();
  const grpc::Status status = reader->Finish();
  SL_RETURN_IF_ERROR(received);
  SL_RETURN_IF_ERROR(FromRegistry(status, name));
  return receiver.Finish();
}

}  // namespace sinklora::curator
