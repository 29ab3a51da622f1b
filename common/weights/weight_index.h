// The weights of a model directory: model.safetensors, or shards with the index
// that names them.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_WEIGHT_INDEX_H_
#define SINKLORA_COMMON_WEIGHTS_WEIGHT_INDEX_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/weights/safetensors.h"

namespace sinklora {

constexpr char kSingleWeightsFile[] = "model.safetensors";
constexpr char kWeightIndexFile[] = "model.safetensors.index.json";

// Shard file by tensor name.
using WeightMap = std::map<std::string, std::string>;

// Parses an index. kInvalidArgument naming `what` and the key when weight_map
// is not a non-empty object of file names (shards lie beside the index, so a
// name with a separator is refused).
absl::StatusOr<WeightMap> ParseWeightIndex(std::string_view json,
                                           const std::string& what);

// A tensor with the file it came from, for messages.
struct FoundTensor {
  StoredTensor tensor;
  std::string path;
};

struct ModelWeights {
  std::vector<std::unique_ptr<SafetensorsFile>> files;  // own the bytes
  std::map<std::string, FoundTensor> tensors;
};

// Opens every file. The index and the shards must agree: kInvalidArgument
// naming all tensors that are missing in their shard, that are in a shard but
// not in the index, or in a shard other than the index says. Links by the rules
// of ResolveModelFile. kNotFound when there are no weights; a directory that
// has torch pickles in their place is told so.
absl::StatusOr<ModelWeights> OpenModelWeights(const std::string& directory);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_WEIGHT_INDEX_H_
