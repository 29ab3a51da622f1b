// Models from the registry, over its public RPCs. Every call has a deadline;
// those that got no answer are repeated by the channel's policy.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_REGISTRY_CLIENT_H_
#define SINKLORA_SERVICES_CURATOR_REGISTRY_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "services/curator/tokenizer_cache.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace sinklora::curator {

class RegistryClient final : public ModelSource {
 public:
  // `address` gives host:port at the time of a call; empty while the registry's
  // port is not known yet (kUnavailable then).
  explicit RegistryClient(std::function<std::string()> address)
      : address_(std::move(address)) {}

  absl::StatusOr<Model> Describe(const std::string& name) override;
  absl::Status Download(const std::string& name,
                        const std::vector<std::string>& paths,
                        const std::string& directory,
                        const CancelledFn& cancelled) override;

 private:
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Channel();

  const std::function<std::string()> address_;
  Mutex mutex_;
  std::string channel_address_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<grpc::Channel> channel_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_REGISTRY_CLIENT_H_
