// SPDX-License-Identifier: Apache-2.0
#include "common/weights/model_files.h"

#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/weights/file_dtype.h"
#include "common/weights/model_directory.h"
#include "common/weights/weight_index.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

bool IsRotaryBuffer(const std::string& name) {
  return name.ends_with("rotary_emb.inv_freq");
}

absl::Status CheckTensor(const FoundTensor& found, const std::string& name,
                         const std::vector<int64_t>& shape) {
  if (found.tensor.shape != shape) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: tensor '{}' has shape {}, config.json makes it {}", found.path,
        name, ShapeToString(found.tensor.shape), ShapeToString(shape)));
  }
  if (!IsFloat(found.tensor.dtype)) {
    return absl::InvalidArgumentError(
        fmt::format("{}: tensor '{}' is {}, must be F32, F16 or BF16",
                    found.path, name, FileDTypeName(found.tensor.dtype)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFiles>> ModelFiles::Open(
    const std::string& directory) {
  std::unique_ptr<ModelFiles> model(new ModelFiles());
  model->directory_ = directory;
  SL_ASSIGN_OR_RETURN(model->config_json_,
                      ReadModelFile(directory, "config.json"));
  auto config = ParseLlamaConfig(model->config_json_);
  if (!config.ok()) return Annotate(config.status(), directory);
  model->config_ = *config;

  SL_ASSIGN_OR_RETURN(ModelWeights weights, OpenModelWeights(directory));
  model->shards_ = std::move(weights.files);
  std::map<std::string, FoundTensor>& found = weights.tensors;
  // Before the list is made: config.json may ask for any number of layers.
  constexpr int64_t kTensorsPerLayer = 9;
  const auto count = static_cast<int64_t>(found.size());
  if (model->config_.num_layers > count / kTensorsPerLayer) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: {} tensors are too few for num_hidden_layers {} of config.json",
        directory, count, model->config_.num_layers));
  }
  for (const auto& [name, shape] : LlamaTensors(model->config_)) {
    const auto it = found.find(name);
    if (it == found.end()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' is missing", directory, name));
    }
    SL_RETURN_IF_ERROR(CheckTensor(it->second, name, shape));
    model->tensors_[name] = it->second.tensor;
    found.erase(it);
  }
  for (const auto& [name, rest] : found) {
    const bool unused_head =
        name == "lm_head.weight" && model->config_.tie_word_embeddings;
    if (unused_head || IsRotaryBuffer(name)) continue;
    return absl::InvalidArgumentError(
        fmt::format("{}: unknown tensor '{}'", rest.path, name));
  }
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

absl::Status ModelFiles::CheckFinite() const {
  std::vector<std::string> defects;
  for (const auto& [name, tensor] : tensors_) {
    const std::optional<int64_t> at = FirstNonFinite(tensor);
    if (!at) continue;
    const bool flat = tensor.shape.size() != 2;
    defects.push_back(fmt::format(
        "{} of shape {} has NaN or infinity at {}", TensorLabel(name),
        ShapeToString(tensor.shape),
        ShapeToString(flat ? std::vector<int64_t>{*at}
                           : std::vector<int64_t>{*at / tensor.shape[1],
                                                  *at % tensor.shape[1]})));
  }
  if (defects.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: {}", directory_, JoinForMessage(defects)));
}

}  // namespace sinklora
