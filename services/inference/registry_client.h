// The registry over gRPC, as the source of artifacts.
//
// Thread-safe. A registry that does not answer in time is kUnavailable.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_REGISTRY_CLIENT_H_
#define SINKLORA_SERVICES_INFERENCE_REGISTRY_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "common/base/mutex.h"
#include "services/inference/artifact_source.h"
#include "sinklora/registry/v1/registry_service.grpc.pb.h"

namespace sinklora::inference {

class RegistryClient : public ArtifactSource {
 public:
  // `address` gives host:port and is asked before every call: in a process that
  // also runs the registry the port is known only once it listens, and a
  // restarted registry may have moved.
  explicit RegistryClient(std::function<std::string()> address)
      : address_(std::move(address)) {}

  absl::StatusOr<Artifact> GetModel(const std::string& name) override;
  absl::StatusOr<AdapterArtifact> GetAdapter(const std::string& name) override;
  absl::Status DownloadModel(const Artifact& model,
                             const std::string& directory) override;
  absl::Status DownloadAdapter(const Artifact& adapter,
                               const std::string& directory) override;

 private:
  using Stub = registry::v1::RegistryService::Stub;
  // Stub and address of now; the connection is kept while the address stays.
  absl::StatusOr<std::shared_ptr<Stub>> Connect();
  absl::Status Translate(const grpc::Status& status);

  const std::function<std::string()> address_;
  Mutex mutex_;
  std::string connected_address_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Stub> stub_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_REGISTRY_CLIENT_H_
