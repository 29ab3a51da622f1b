// Between the messages of the inference protos and the structs of the core.
// Shapes only: values are checked by the core.
//
// Thread-safe (stateless).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_CONVERT_H_
#define SINKLORA_SERVICES_INFERENCE_CONVERT_H_

#include "absl/status/statusor.h"
#include "services/inference/generation.h"
#include "services/inference/prepare.h"
#include "services/inference/served_target.h"
#include "sinklora/inference/v1/inference_service.pb.h"

namespace sinklora::inference {

TargetSpec ToSpec(const v1::Target& target);
// kInvalidArgument for an enum value that has no meaning.
absl::StatusOr<GenerationParams> ToParams(const v1::GenerateRequest& request);

v1::GenerateResponse ToStarted(const GenerationRequest& request);
v1::GenerateResponse ToDelta(const GenerationDelta& delta);
v1::GenerateResponse ToFinished(const GenerationResult& result);
v1::LoadedModel ToLoadedModel(const ServedTarget& target);

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_CONVERT_H_
