// SPDX-License-Identifier: Apache-2.0
#include "common/weights/model_files.h"

#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/weights/file_dtype.h"
#include "common/weights/model_directory.h"
#include "common/weights/tensor_check.h"
#include "common/weights/weight_index.h"
#include "fmt/format.h"

namespace sinklora {
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
  SL_ASSIGN_OR_RETURN(model->tensors_,
                      CheckTensors(model->config_, weights.tensors, directory));
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
