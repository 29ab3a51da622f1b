// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/status_translation.h"
#include "services/trainer/dataset_catalog.h"
#include "sinklora/curator/v1/curator_service.grpc.pb.h"

namespace sinklora::trainer {
namespace {

using curator::v1::CuratorService;

class CuratorCatalog final : public DatasetCatalog {
 public:
  explicit CuratorCatalog(std::function<std::string()> address)
      : address_(std::move(address)) {}

  absl::StatusOr<curator::v1::Dataset> GetDataset(
      const std::string& name) override {
    const std::string address = address_();
    if (address.empty()) {
      return absl::UnavailableError("the curator has no address yet");
    }
    const auto stub = CuratorService::NewStub(ChannelTo(address));
    const auto context = MakeContext(kUnaryTimeoutSeconds);
    curator::v1::GetDatasetRequest request;
    request.set_name(name);
    curator::v1::GetDatasetResponse response;
    const grpc::Status status =
        stub->GetDataset(context.get(), request, &response);
    if (!status.ok()) {
      return Annotate(FromGrpc(status), fmt::format("curator {}", address));
    }
    return response.dataset();
  }

 private:
  // One channel an address: connecting is dearer than the call.
  std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) {
    MutexLock lock(&mutex_);
    auto& channel = channels_[address];
    if (channel == nullptr) channel = MakeChannel(address);
    return channel;
  }

  const std::function<std::string()> address_;
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<DatasetCatalog> MakeCuratorCatalog(
    std::function<std::string()> address) {
  return std::make_unique<CuratorCatalog>(std::move(address));
}

}  // namespace sinklora::trainer
