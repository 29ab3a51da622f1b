// SPDX-License-Identifier: Apache-2.0
#include "common/model/weight_type.h"

#include <fmt/format.h>

#include "absl/status/status.h"

namespace sinklora {
namespace {

constexpr WeightType kAll[] = {WeightType::kFloat32, WeightType::kBfloat16,
                               WeightType::kInt8, WeightType::kInt4};

}  // namespace

std::string_view NameOf(WeightType type) {
  switch (type) {
    case WeightType::kFloat32:
      return "float32";
    case WeightType::kBfloat16:
      return "bfloat16";
    case WeightType::kInt8:
      return "int8";
    case WeightType::kInt4:
      return "int4";
  }
  return "unknown";
}

absl::StatusOr<WeightType> ParseWeightType(std::string_view name) {
  for (const WeightType type : kAll) {
    if (name == NameOf(type)) return type;
  }
  return absl::InvalidArgumentError(
      fmt::format("weight type is '{}', must be float32, bfloat16, int8 or "
                  "int4",
                  name));
}

}  // namespace sinklora
