// RegistryService over a DirectorySource: the part of it that serving reads.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_INFERENCE_FAKE_REGISTRY_H_
#define SINKLORA_TESTS_SERVICES_INFERENCE_FAKE_REGISTRY_H_

#include "sinklora/registry/v1/registry_service.grpc.pb.h"
#include "tests/services/inference/directory_source.h"

namespace sinklora::inference {

class FakeRegistry final : public registry::v1::RegistryService::Service {
 public:
  // Borrows the source.
  explicit FakeRegistry(DirectorySource* source) : source_(source) {}

  grpc::Status GetModel(grpc::ServerContext* context,
                        const registry::v1::GetModelRequest* request,
                        registry::v1::GetModelResponse* response) override;
  grpc::Status GetAdapter(grpc::ServerContext* context,
                          const registry::v1::GetAdapterRequest* request,
                          registry::v1::GetAdapterResponse* response) override;
  grpc::Status DownloadModel(
      grpc::ServerContext* context,
      const registry::v1::DownloadModelRequest* request,
      grpc::ServerWriter<registry::v1::DownloadModelResponse>* writer) override;
  grpc::Status DownloadAdapter(
      grpc::ServerContext* context,
      const registry::v1::DownloadAdapterRequest* request,
      grpc::ServerWriter<registry::v1::DownloadAdapterResponse>* writer)
      override;

 private:
  DirectorySource* const source_;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_TESTS_SERVICES_INFERENCE_FAKE_REGISTRY_H_
