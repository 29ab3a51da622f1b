// SPDX-License-Identifier: Apache-2.0
#include "services/cli/inference_client.h"

#include "services/cli/rpc_call.h"
#include "sinklora/inference/v1/inference_service.grpc.pb.h"

namespace sinklora::cli {
namespace {

namespace v1 = inference::v1;
using Stub = v1::InferenceService::Stub;

// Any of these calls may have to load the model first, and a long prompt takes
// long: the deadline is a transfer's.
constexpr double kModelTimeoutSeconds = kTransferTimeoutSeconds;

class GrpcInferenceClient final : public InferenceClient {
 public:
  GrpcInferenceClient(const std::string& address, Interrupt* interrupt)
      : interrupt_(interrupt),
        stub_(v1::InferenceService::NewStub(MakeChannel(address))) {}

  absl::Status Generate(const v1::GenerateRequest& request,
                        const std::function<void(const v1::GenerateResponse&)>&
                            on_event) override {
    Call call(interrupt_, kModelTimeoutSeconds);
    bool finished = false;
    const auto reader = stub_->Generate(call.context(), request);
    SL_RETURN_IF_ERROR(ReadStream<v1::GenerateResponse>(
        &call, reader.get(), [&](const v1::GenerateResponse& response) {
          finished = response.has_finished();
          on_event(response);
          return absl::OkStatus();
        }));
    if (!finished) return absl::InternalError("Generate ended unfinished");
    return absl::OkStatus();
  }

  absl::StatusOr<v1::ScoreResponse> Score(
      const v1::ScoreRequest& request) override {
    return CallUnary<v1::ScoreResponse>(interrupt_, kModelTimeoutSeconds,
                                        stub_.get(), &Stub::Score, request);
  }

  absl::StatusOr<v1::TokenizeResponse> Tokenize(
      const v1::TokenizeRequest& request) override {
    return CallUnary<v1::TokenizeResponse>(interrupt_, kModelTimeoutSeconds,
                                           stub_.get(), &Stub::Tokenize,
                                           request);
  }

 private:
  Interrupt* const interrupt_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::unique_ptr<InferenceClient> InferenceClient::Create(
    const std::string& address, Interrupt* interrupt) {
  return std::make_unique<GrpcInferenceClient>(address, interrupt);
}

}  // namespace sinklora::cli
