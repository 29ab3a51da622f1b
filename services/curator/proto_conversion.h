// Between the API's messages and the core's types.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_PROTO_CONVERSION_H_
#define SINKLORA_SERVICES_CURATOR_PROTO_CONVERSION_H_

#include "absl/status/statusor.h"
#include "services/curator/types.h"
#include "sinklora/curator/v1/curator_service.pb.h"

namespace sinklora::curator {

// kInvalidArgument, naming the field, for an enum value that this version does
// not know.
absl::StatusOr<SourceFormat> FromProto(v1::SourceFormat format);
absl::StatusOr<Split> FromProto(v1::Split split);
absl::StatusOr<Recipe> FromProto(const v1::Recipe& recipe);

v1::Source ToProto(const SourceInfo& source);
v1::Dataset ToProto(const DatasetInfo& dataset);
v1::Example ToProto(const TrainingExample& example);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_PROTO_CONVERSION_H_
