// SPDX-License-Identifier: Apache-2.0
#include "common/weights/model_files.h"

#include <set>
#include <utility>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/json.h"
#include "common/weights/tensor_check.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using nlohmann::json;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";

// Shard file by tensor name; empty for a model of one file.
using WeightMap = std::map<std::string, std::string>;

absl::StatusOr<WeightMap> ReadIndex(const std::string& path) {
  SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  SL_ASSIGN_OR_RETURN(const json index, ParseJsonObject(text, path));
  const json* map = FindField(index, "weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: weight_map must be a non-empty object", path));
  }
  WeightMap weight_map;
  for (auto it = map->begin(); it != map->end(); ++it) {
    if (!it->is_string() || !IsSafeRelativePath(it->get<std::string>())) {
      return absl::InvalidArgumentError(
          fmt::format("{}: weight_map[\"{}\"] is {}, must be a file below the "
                      "directory",
                      path, it.key(), JsonExcerpt(*it)));
    }
    weight_map[it.key()] = it->get<std::string>();
  }
  return weight_map;
}

// Files of the directory, and the map that names them.
absl::StatusOr<std::set<std::string>> ShardNames(const std::string& directory,
                                                 WeightMap* weight_map) {
  if (FileExists(JoinPath(directory, kSingleFile))) {
    return std::set<std::string>{kSingleFile};
  }
  const std::string index_path = JoinPath(directory, kIndexFile);
  if (FileExists(index_path)) {
    SL_ASSIGN_OR_RETURN(*weight_map, ReadIndex(index_path));
    std::set<std::string> names;
    for (const auto& [tensor, file] : *weight_map) names.insert(file);
    return names;
  }
  for (const char* pickle :
       {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (FileExists(JoinPath(directory, pickle))) {
      return absl::InvalidArgumentError(fmt::format(
          "{} has only {}, a torch pickle; convert it to safetensors",
          directory, pickle));
    }
  }
  return absl::NotFoundError(fmt::format("{} has neither {} nor {}", directory,
                                         kSingleFile, kIndexFile));
}

absl::Status CollectTensors(const SafetensorsFile& file,
                            const std::string& path, const std::string& shard,
                            const WeightMap& weight_map,
                            std::map<std::string, FoundTensor>* found) {
  for (const auto& [name, tensor] : file.tensors()) {
    const auto mapped = weight_map.find(name);
    if (!weight_map.empty() &&
        (mapped == weight_map.end() || mapped->second != shard)) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: tensor '{}' is {} in {}", path, name,
          mapped == weight_map.end() ? "not" : "in '" + mapped->second + "'",
          kIndexFile));
    }
    found->insert({name, FoundTensor{tensor, path}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFiles>> ModelFiles::Open(
    const std::string& directory) {
  std::unique_ptr<ModelFiles> model(new ModelFiles());
  model->directory_ = directory;
  SL_ASSIGN_OR_RETURN(model->config_json_,
                      ReadFile(JoinPath(directory, "config.json")));
  auto config = ParseLlamaConfig(model->config_json_);
  if (!config.ok()) return Annotate(config.status(), directory);
  model->config_ = *config;

  WeightMap weight_map;
  SL_ASSIGN_OR_RETURN(const auto shards, ShardNames(directory, &weight_map));
  std::map<std::string, FoundTensor> found;
  for (const std::string& shard : shards) {
    const std::string path = JoinPath(directory, shard);
    SL_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(path));
    SL_RETURN_IF_ERROR(CollectTensors(*file, path, shard, weight_map, &found));
    model->shards_.push_back(std::move(file));
  }
  for (const auto& [name, file] : weight_map) {
    if (!found.contains(name)) {
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' is missing, which {} puts there",
                      JoinPath(directory, file), name, kIndexFile));
    }
  }
  SL_ASSIGN_OR_RETURN(model->tensors_,
                      CheckTensors(model->config_, found, directory));
  return model;
}

absl::StatusOr<StoredTensor> ModelFiles::tensor(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) {
    return absl::NotFoundError(
        fmt::format("{} has no tensor '{}'", directory_, name));
  }
  return it->second;
}

std::vector<std::string> ModelFiles::tensor_names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

}  // namespace sinklora
