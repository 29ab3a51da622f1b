// sinklora.inference.v1.InferenceService over the core: converts, calls,
// counts.
//
// Thread-safe. Borrows everything it is given; all must outlive the server.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_INFERENCE_SERVICE_H_
#define SINKLORA_SERVICES_INFERENCE_INFERENCE_SERVICE_H_

#include <optional>

#include "common/base/clock.h"
#include "common/model/options.h"
#include "common/rpc/handlers.h"
#include "services/inference/engine.h"
#include "services/inference/metrics.h"
#include "services/inference/model_manager.h"
#include "sinklora/inference/v1/inference_service.grpc.pb.h"

namespace sinklora::inference {

class InferenceServiceImpl final
    : public v1::InferenceService::CallbackService {
 public:
  // Calls that wait for the engine (Generate, Score) run on `engine_rpc`'s
  // executor, which has a thread for each the engine's limits admit; all others
  // on `rpc`'s. `cache_storage`: of generations that ask for none.
  InferenceServiceImpl(RpcContext rpc, RpcContext engine_rpc, Engine* engine,
                       ModelManager* models, InferenceMetrics* metrics,
                       Clock* clock, std::optional<CacheStorage> cache_storage);

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context,
      const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* LoadModel(grpc::CallbackServerContext* context,
                                      const v1::LoadModelRequest* request,
                                      v1::LoadModelResponse* response) override;
  grpc::ServerUnaryReactor* UnloadModel(
      grpc::CallbackServerContext* context,
      const v1::UnloadModelRequest* request,
      v1::UnloadModelResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(
      grpc::CallbackServerContext* context,
      const v1::ListModelsRequest* request,
      v1::ListModelsResponse* response) override;

 private:
  absl::Status DoGenerate(const CallInfo& call,
                          const v1::GenerateRequest& request,
                          int64_t arrival_micros,
                          StreamWriter<v1::GenerateResponse>* writer);
  absl::Status DoScore(const CallInfo& call, const v1::ScoreRequest& request,
                       v1::ScoreResponse* response);
  absl::Status DoTokenize(const v1::TokenizeRequest& request,
                          v1::TokenizeResponse* response);
  // Refuses while draining, else acquires the target.
  absl::StatusOr<std::shared_ptr<ServedTarget>> Acquire(
      const v1::Target& target);

  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* Unary(
      const RpcContext& rpc, const char* method,
      grpc::CallbackServerContext* context, const Request* request,
      Response* response,
      std::function<absl::Status(const CallInfo&, const Request&, Response*)>
          handler);

  const RpcContext rpc_;
  const RpcContext engine_rpc_;
  Engine* const engine_;
  ModelManager* const models_;
  InferenceMetrics* const metrics_;
  Clock* const clock_;
  const std::optional<CacheStorage> cache_storage_;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_INFERENCE_SERVICE_H_
