// A RegistryService that serves one model, "tiny", from a directory: what the
// curator asks of the real one.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_CURATOR_FAKE_REGISTRY_H_
#define SINKLORA_TESTS_SERVICES_CURATOR_FAKE_REGISTRY_H_

#include <string>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/handlers.h"
#include "sinklora/registry/v1/registry_service.grpc.pb.h"
#include "tests/services/curator/fixture.h"

namespace sinklora::curator {

class FakeRegistry final
    : public registry::v1::RegistryService::CallbackService {
 public:
  FakeRegistry(RpcContext rpc, std::string directory)
      : rpc_(std::move(rpc)), models_(directory), directory_(directory) {}

  // While held, GetModel does not answer.
  void Hold() {
    MutexLock lock(&mutex_);
    held_ = true;
  }
  void Release() {
    MutexLock lock(&mutex_);
    held_ = false;
    changed_.NotifyAll();
  }
  void WaitUntilAsked() {
    MutexLock lock(&mutex_);
    while (waiting_ == 0) changed_.Wait(&mutex_);
  }

  grpc::ServerUnaryReactor* GetModel(
      grpc::CallbackServerContext* context,
      const registry::v1::GetModelRequest* request,
      registry::v1::GetModelResponse* response) override {
    return RunUnary<registry::v1::GetModelRequest,
                    registry::v1::GetModelResponse>(
        rpc_, "GetModel", context, request, response,
        [this](const CallInfo&, const registry::v1::GetModelRequest& req,
               registry::v1::GetModelResponse* resp) -> absl::Status {
          WaitWhileHeld();
          SL_ASSIGN_OR_RETURN(const auto model, models_.Describe(req.name()));
          resp->mutable_model()->set_name(req.name());
          resp->mutable_model()->set_tokenizer_digest(model.tokenizer_digest);
          for (const StoredFile& file : model.files) {
            auto* info = resp->mutable_model()->add_files();
            info->set_path(file.path);
            info->set_size_bytes(file.size_bytes);
            info->set_sha256(file.sha256);
          }
          return absl::OkStatus();
        });
  }

  grpc::ServerWriteReactor<registry::v1::DownloadModelResponse>* DownloadModel(
      grpc::CallbackServerContext* context,
      const registry::v1::DownloadModelRequest* request) override {
    return RunServerStream<registry::v1::DownloadModelRequest,
                           registry::v1::DownloadModelResponse>(
        rpc_, "DownloadModel", context, request,
        [this](const CallInfo&, const registry::v1::DownloadModelRequest& req,
               StreamWriter<registry::v1::DownloadModelResponse>* writer) {
          return SendFiles(directory_, {req.paths().begin(), req.paths().end()},
                           [writer](common::v1::FileChunk chunk) {
                             registry::v1::DownloadModelResponse response;
                             *response.mutable_chunk() = std::move(chunk);
                             return writer->Write(response);
                           });
        });
  }

 private:
  void WaitWhileHeld() {
    MutexLock lock(&mutex_);
    ++waiting_;
    changed_.NotifyAll();
    while (held_) changed_.Wait(&mutex_);
    --waiting_;
  }

  const RpcContext rpc_;
  DirectoryModels models_;
  const std::string directory_;
  Mutex mutex_;
  CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_TESTS_SERVICES_CURATOR_FAKE_REGISTRY_H_
