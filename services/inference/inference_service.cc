// SPDX-License-Identifier: Apache-2.0
#include "services/inference/inference_service.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/status.h"
#include "services/inference/convert.h"
#include "services/inference/prepare.h"

namespace sinklora::inference {
namespace {

double Seconds(int64_t micros) { return static_cast<double>(micros) * 1e-6; }

// Counts a score as a running request of its target.
class RunningScope {
 public:
  explicit RunningScope(std::shared_ptr<ServedTarget> target)
      : target_(std::move(target)) {
    target_->running_requests.fetch_add(1);
  }
  ~RunningScope() { target_->running_requests.fetch_sub(1); }
  RunningScope(const RunningScope&) = delete;
  RunningScope& operator=(const RunningScope&) = delete;

 private:
  const std::shared_ptr<ServedTarget> target_;
};

absl::StatusOr<std::vector<int32_t>> ScoreInput(const v1::ScoreRequest& request,
                                                const Tokenizer& tokenizer) {
  switch (request.input_case()) {
    case v1::ScoreRequest::kText:
      return EncodeText(tokenizer, request.text(), /*add_bos=*/true);
    case v1::ScoreRequest::kTokenIds:
      return std::vector<int32_t>(request.token_ids().ids().begin(),
                                  request.token_ids().ids().end());
    case v1::ScoreRequest::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("input is missing: set text or token_ids");
}

}  // namespace

InferenceServiceImpl::InferenceServiceImpl(
    RpcContext rpc, RpcContext engine_rpc, Engine* engine, ModelManager* models,
    InferenceMetrics* metrics, Clock* clock,
    std::optional<CacheStorage> cache_storage)
    : rpc_(std::move(rpc)),
      engine_rpc_(std::move(engine_rpc)),
      engine_(engine),
      models_(models),
      metrics_(metrics),
      clock_(clock),
      cache_storage_(cache_storage) {}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* InferenceServiceImpl::Unary(
    const RpcContext& rpc, const char* method,
    grpc::CallbackServerContext* context, const Request* request,
    Response* response,
    std::function<absl::Status(const CallInfo&, const Request&, Response*)>
        handler) {
  const int64_t arrival_micros = clock_->MonotonicMicros();
  return RunUnary<Request, Response>(
      rpc, method, context, request, response,
      [this, method, arrival_micros, handler = std::move(handler)](
          const CallInfo& call, const Request& req, Response* resp) {
        absl::Status status = handler(call, req, resp);
        metrics_->ObserveCall(
            method, status,
            Seconds(clock_->MonotonicMicros() - arrival_micros));
        return status;
      });
}

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceServiceImpl::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  const int64_t arrival_micros = clock_->MonotonicMicros();
  return RunServerStream<v1::GenerateRequest, v1::GenerateResponse>(
      engine_rpc_, "Generate", context, request,
      [this, arrival_micros](const CallInfo& call,
                             const v1::GenerateRequest& req,
                             StreamWriter<v1::GenerateResponse>* writer) {
        absl::Status status = DoGenerate(call, req, arrival_micros, writer);
        metrics_->ObserveCall(
            "Generate", status,
            Seconds(clock_->MonotonicMicros() - arrival_micros));
        return status;
      });
}

absl::Status InferenceServiceImpl::DoGenerate(
    const CallInfo& call, const v1::GenerateRequest& request,
    int64_t arrival_micros, StreamWriter<v1::GenerateResponse>* writer) {
  SL_ASSIGN_OR_RETURN(GenerationParams params, ToParams(request));
  if (!params.cache.storage) params.cache.storage = cache_storage_;
  SL_ASSIGN_OR_RETURN(std::shared_ptr<ServedTarget> target,
                      Acquire(request.target()));
  SL_ASSIGN_OR_RETURN(GenerationRequest prepared,
                      PrepareGeneration(std::move(target), std::move(params)));
  prepared.cancellation = call.cancellation;
  prepared.arrival_micros = arrival_micros;
  const v1::GenerateResponse started = ToStarted(prepared);
  SL_ASSIGN_OR_RETURN(const std::unique_ptr<Generation> generation,
                      engine_->Submit(std::move(prepared)));
  const absl::Status gone = absl::CancelledError("the client went away");
  if (!writer->Write(started)) return gone;
  GenerationDelta delta;
  while (generation->Next(&delta)) {
    if (!writer->Write(ToDelta(delta))) return gone;
  }
  SL_ASSIGN_OR_RETURN(const GenerationResult result, generation->result());
  return writer->Write(ToFinished(result)) ? absl::OkStatus() : gone;
}

grpc::ServerUnaryReactor* InferenceServiceImpl::Score(
    grpc::CallbackServerContext* context, const v1::ScoreRequest* request,
    v1::ScoreResponse* response) {
  return Unary<v1::ScoreRequest, v1::ScoreResponse>(
      engine_rpc_, "Score", context, request, response,
      [this](const CallInfo& call, const v1::ScoreRequest& req,
             v1::ScoreResponse* resp) { return DoScore(call, req, resp); });
}

absl::Status InferenceServiceImpl::DoScore(const CallInfo& call,
                                           const v1::ScoreRequest& request,
                                           v1::ScoreResponse* response) {
  SL_ASSIGN_OR_RETURN(const std::shared_ptr<ServedTarget> target,
                      Acquire(request.target()));
  SL_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                      ScoreInput(request, target->tokenizer()));
  // 0 is the field's default and means the first token that can be scored.
  const int64_t score_from =
      request.score_from() == 0 ? 1 : request.score_from();
  const RunningScope running(target);
  ServedModel::ScoreResult result;
  SL_RETURN_IF_ERROR(engine_->Run([&](kernels::Backend*) {
    if (call.cancellation->cancelled()) {
      return absl::CancelledError("the client went away");
    }
    SL_ASSIGN_OR_RETURN(
        result, target->model->Score(ids, score_from, call.cancellation.get()));
    return absl::OkStatus();
  }));
  metrics_->scored_tokens->Increment(static_cast<double>(result.scored_tokens));
  response->set_nll_sum(result.nll_sum);
  response->set_scored_tokens(result.scored_tokens);
  if (request.per_token()) {
    response->mutable_nll()->Add(result.nll.begin(), result.nll.end());
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceServiceImpl::Tokenize(
    grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
    v1::TokenizeResponse* response) {
  return Unary<v1::TokenizeRequest, v1::TokenizeResponse>(
      rpc_, "Tokenize", context, request, response,
      [this](const CallInfo&, const v1::TokenizeRequest& req,
             v1::TokenizeResponse* resp) { return DoTokenize(req, resp); });
}

absl::Status InferenceServiceImpl::DoTokenize(
    const v1::TokenizeRequest& request, v1::TokenizeResponse* response) {
  SL_ASSIGN_OR_RETURN(const std::shared_ptr<ServedTarget> target,
                      Acquire(request.target()));
  const Tokenizer& tokenizer = target->tokenizer();
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText: {
      SL_ASSIGN_OR_RETURN(
          const std::vector<int32_t> ids,
          EncodeText(tokenizer, request.text(), request.add_bos()));
      response->mutable_token_ids()->Add(ids.begin(), ids.end());
      response->set_text(request.text());
      break;
    }
    case v1::TokenizeRequest::kTokenIds: {
      const auto& ids = request.token_ids().ids();
      SL_ASSIGN_OR_RETURN(
          *response->mutable_text(),
          DecodeIds(tokenizer,
                    std::span<const int32_t>(ids.data(),
                                             static_cast<size_t>(ids.size()))));
      response->mutable_token_ids()->CopyFrom(ids);
      break;
    }
    case v1::TokenizeRequest::INPUT_NOT_SET:
      return absl::InvalidArgumentError(
          "input is missing: set text or token_ids");
  }
  response->set_context_tokens(target->model->context_tokens());
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceServiceImpl::LoadModel(
    grpc::CallbackServerContext* context, const v1::LoadModelRequest* request,
    v1::LoadModelResponse* response) {
  return Unary<v1::LoadModelRequest, v1::LoadModelResponse>(
      rpc_, "LoadModel", context, request, response,
      [this](const CallInfo&, const v1::LoadModelRequest& req,
             v1::LoadModelResponse* resp) {
        SL_ASSIGN_OR_RETURN(const std::shared_ptr<ServedTarget> target,
                            Acquire(req.target()));
        *resp->mutable_loaded() = ToLoadedModel(*target);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* InferenceServiceImpl::UnloadModel(
    grpc::CallbackServerContext* context, const v1::UnloadModelRequest* request,
    v1::UnloadModelResponse* response) {
  return Unary<v1::UnloadModelRequest, v1::UnloadModelResponse>(
      rpc_, "UnloadModel", context, request, response,
      [this](const CallInfo&, const v1::UnloadModelRequest& req,
             v1::UnloadModelResponse*) {
        return models_->Unload(ToSpec(req.target()));
      });
}

grpc::ServerUnaryReactor* InferenceServiceImpl::ListModels(
    grpc::CallbackServerContext* context, const v1::ListModelsRequest* request,
    v1::ListModelsResponse* response) {
  return Unary<v1::ListModelsRequest, v1::ListModelsResponse>(
      rpc_, "ListModels", context, request, response,
      [this](const CallInfo&, const v1::ListModelsRequest&,
             v1::ListModelsResponse* resp) {
        for (const auto& target : models_->List()) {
          *resp->add_loaded() = ToLoadedModel(*target);
        }
        return absl::OkStatus();
      });
}

absl::StatusOr<std::shared_ptr<ServedTarget>> InferenceServiceImpl::Acquire(
    const v1::Target& target) {
  SL_RETURN_IF_ERROR(engine_->CheckAccepting());
  return models_->Acquire(ToSpec(target));
}

}  // namespace sinklora::inference
