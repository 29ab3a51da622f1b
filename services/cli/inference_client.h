// InferenceService as plain functions. Thread-safe. Errors are those of the
// service, or kUnavailable and kDeadlineExceeded of the way there.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_INFERENCE_CLIENT_H_
#define SINKLORA_SERVICES_CLI_INFERENCE_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/cli/interrupt.h"
#include "sinklora/inference/v1/inference_service.pb.h"

namespace sinklora::cli {

class InferenceClient {
 public:
  // Connects at the first call. Borrows `interrupt`.
  static std::unique_ptr<InferenceClient> Create(const std::string& address,
                                                 Interrupt* interrupt);
  virtual ~InferenceClient() = default;

  // OK once the finished event was given to `on_event`.
  virtual absl::Status Generate(
      const inference::v1::GenerateRequest& request,
      const std::function<void(const inference::v1::GenerateResponse&)>&
          on_event) = 0;
  virtual absl::StatusOr<inference::v1::ScoreResponse> Score(
      const inference::v1::ScoreRequest& request) = 0;
  virtual absl::StatusOr<inference::v1::TokenizeResponse> Tokenize(
      const inference::v1::TokenizeRequest& request) = 0;
};

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_INFERENCE_CLIENT_H_
