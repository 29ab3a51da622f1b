// Long lists of tensor names, made short for messages.
//
// Pure functions. Private to this folder.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_TENSOR_NAMES_H_
#define SINKLORA_COMMON_WEIGHTS_TENSOR_NAMES_H_

#include <string>
#include <vector>

namespace sinklora {

// All of `names`, those that differ in their layer only as one: 'a', 'b',
// 'model.layers.{0-3,7}.mlp.up_proj.weight'. Complete, and yet short enough for
// the trailers of an RPC whatever the number of layers.
std::string JoinTensorNames(const std::vector<std::string>& names);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_TENSOR_NAMES_H_
