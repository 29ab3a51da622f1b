// How the matrices of a served model are stored.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_MODEL_WEIGHT_TYPE_H_
#define SINKLORA_COMMON_MODEL_WEIGHT_TYPE_H_

#include <string_view>

#include "absl/status/statusor.h"

namespace sinklora {

// kInt8 and kInt4 are the blocks of
// kernels/quantized_matmul/quantized_matrix.h. With kInt4 the embedding and the
// head have 8 bits. Norms and biases are f32 always. Training knows the first
// two only (TrainingOptions::matrix_dtype): it needs the weights themselves.
enum class WeightType { kFloat32, kBfloat16, kInt8, kInt4 };

// "float32", "bfloat16", "int8", "int4".
std::string_view NameOf(WeightType type);
// The other way; kInvalidArgument listing the names.
absl::StatusOr<WeightType> ParseWeightType(std::string_view name);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_MODEL_WEIGHT_TYPE_H_
