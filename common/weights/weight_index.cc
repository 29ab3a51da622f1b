// SPDX-License-Identifier: Apache-2.0
#include "common/weights/weight_index.h"

#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/json.h"
#include "common/weights/model_directory.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

bool IsFileName(const std::string& name) {
  return IsSafeRelativePath(name) &&
         name.find_first_of("/\\") == std::string::npos;
}

// There is no file by this name, not even a link that leads nowhere.
bool IsAbsent(const std::string& directory, const char* name) {
  return absl::IsNotFound(ResolveModelFile(directory, name).status());
}

absl::Status NoWeights(const std::string& directory) {
  std::error_code error;
  std::set<std::string> pickles;
  for (fs::directory_iterator it(directory, error);
       !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string extension = it->path().extension();
    for (const char* pickle : {".bin", ".pt", ".pth", ".ckpt", ".pkl"}) {
      if (extension == pickle) pickles.insert(it->path().filename());
    }
  }
  if (!pickles.empty()) {
    return TorchPickleError(JoinPath(directory, *pickles.begin()));
  }
  return absl::NotFoundError(fmt::format("{} has neither {} nor {}", directory,
                                         kSingleWeightsFile, kWeightIndexFile));
}

// Puts the tensors of one shard with the others; what does not agree with the
// index goes to `defects`.
void Collect(const SafetensorsFile& file, const std::string& path,
             const std::string& shard, const WeightMap& weight_map,
             std::map<std::string, FoundTensor>* found,
             std::vector<std::string>* defects) {
  for (const auto& [name, tensor] : file.tensors()) {
    const auto mapped = weight_map.find(name);
    if (mapped == weight_map.end()) {
      defects->push_back(fmt::format("{} is in {} but not in the index",
                                     TensorLabel(name), shard));
    } else if (mapped->second != shard) {
      defects->push_back(fmt::format("{} is in {}, the index puts it in {}",
                                     TensorLabel(name), shard, mapped->second));
    } else {
      found->insert({name, FoundTensor{tensor, path}});
    }
  }
}

absl::Status AllDefects(const std::string& path,
                        const std::vector<std::string>& defects) {
  if (defects.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: {}", path, JoinForMessage(defects)));
}

absl::StatusOr<ModelWeights> OpenShards(const std::string& directory) {
  const std::string index_path = JoinPath(directory, kWeightIndexFile);
  SL_ASSIGN_OR_RETURN(const std::string text,
                      ReadModelFile(directory, kWeightIndexFile));
  SL_ASSIGN_OR_RETURN(const WeightMap weight_map,
                      ParseWeightIndex(text, index_path));
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : weight_map) shards.insert(shard);
  ModelWeights weights;
  std::vector<std::string> defects;
  for (const std::string& shard : shards) {
    SL_ASSIGN_OR_RETURN(const std::string path,
                        ResolveModelFile(directory, shard));
    SL_ASSIGN_OR_RETURN(weights.files.emplace_back(),
                        SafetensorsFile::Open(path));
    Collect(*weights.files.back(), path, shard, weight_map, &weights.tensors,
            &defects);
  }
  for (const auto& [name, shard] : weight_map) {
    if (!weights.tensors.contains(name)) {
      defects.push_back(
          fmt::format("{} is missing in {}, where the index puts "
                      "it",
                      TensorLabel(name), shard));
    }
  }
  SL_RETURN_IF_ERROR(AllDefects(index_path, defects));
  return weights;
}

}  // namespace

absl::StatusOr<WeightMap> ParseWeightIndex(std::string_view text,
                                           const std::string& what) {
  SL_ASSIGN_OR_RETURN(const json index, ParseJsonObject(text, what));
  const json* map = FindField(index, "weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: weight_map is {}, must be a non-empty object", what,
                    map == nullptr ? "missing" : JsonExcerpt(*map)));
  }
  WeightMap weight_map;
  for (auto it = map->begin(); it != map->end(); ++it) {
    if (!it->is_string() || !IsFileName(it->get<std::string>())) {
      return absl::InvalidArgumentError(
          fmt::format("{}: weight_map puts {} in {}, must be the name of a "
                      "file beside the index",
                      what, TensorLabel(it.key()), JsonExcerpt(*it)));
    }
    weight_map[it.key()] = it->get<std::string>();
  }
  return weight_map;
}

absl::StatusOr<ModelWeights> OpenModelWeights(const std::string& directory) {
  // As transformers does, the single file goes before the index.
  if (IsAbsent(directory, kSingleWeightsFile)) {
    if (IsAbsent(directory, kWeightIndexFile)) return NoWeights(directory);
    return OpenShards(directory);
  }
  SL_ASSIGN_OR_RETURN(const std::string path,
                      ResolveModelFile(directory, kSingleWeightsFile));
  ModelWeights weights;
  SL_ASSIGN_OR_RETURN(weights.files.emplace_back(),
                      SafetensorsFile::Open(path));
  for (const auto& [name, tensor] : weights.files.back()->tensors()) {
    weights.tensors[name] = FoundTensor{tensor, path};
  }
  return weights;
}

}  // namespace sinklora
