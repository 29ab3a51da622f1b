// SPDX-License-Identifier: Apache-2.0
#include "common/weights/tensor_check.h"

#include <set>
#include <vector>

#include "common/base/status.h"
#include "common/weights/file_dtype.h"
#include "common/weights/model_files.h"
#include "common/weights/tensor_names.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

// What old files carry and nothing reads.
bool IsRotaryBuffer(const std::string& name) {
  return name.ends_with("rotary_emb.inv_freq");
}

bool HasVocabularyRows(const std::string& name) {
  return name == "model.embed_tokens.weight" || name == "lm_head.weight";
}

absl::Status CheckTensor(const std::string& name, const FoundTensor& found,
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

// LongLoRA's [PAD] row: the files have a row more than the vocabulary. Only
// that one: a model whose own config.json is further off is damaged. (An
// adapter may have more, see kMaxDroppedVocabRows: it was made beside a base
// that had been resized, with a config.json that knew.)
void DropPadRow(const std::vector<int64_t>& shape, StoredTensor* tensor) {
  if (!HasPadRow(tensor->shape, shape)) return;
  tensor->bytes = tensor->bytes.substr(
      0, tensor->bytes.size() / static_cast<size_t>(tensor->shape[0]) *
             static_cast<size_t>(shape[0]));
  tensor->shape = shape;
}

absl::Status CheckUnknown(const LlamaConfig& config,
                          const std::map<std::string, FoundTensor>& found,
                          const std::map<std::string, StoredTensor>& known) {
  std::vector<std::string> names;
  std::set<std::string> paths;
  for (const auto& [name, tensor] : found) {
    const bool unused_head =
        name == "lm_head.weight" && config.tie_word_embeddings;
    if (known.contains(name) || unused_head || IsRotaryBuffer(name)) continue;
    names.push_back(name);
    paths.insert(tensor.path);
  }
  if (names.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{}: unknown tensor{} {}; model_type '{}' has none of that name",
      *paths.begin(), names.size() == 1 ? "" : "s", JoinTensorNames(names),
      config.model_type));
}

}  // namespace

bool HasPadRow(const std::vector<int64_t>& found,
               const std::vector<int64_t>& expected) {
  return found.size() == 2 && expected.size() == 2 &&
         found[0] == expected[0] + 1 && found[1] == expected[1];
}

absl::StatusOr<std::map<std::string, StoredTensor>> CheckTensors(
    const LlamaConfig& config, const std::map<std::string, FoundTensor>& found,
    const std::string& directory) {
  // Before the list is made: config.json may ask for any number of layers.
  const auto count = static_cast<int64_t>(found.size());
  if (config.num_layers > count) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: {} tensors are too few for num_hidden_layers {} of config.json",
        directory, count, config.num_layers));
  }
  std::map<std::string, StoredTensor> out;
  std::vector<std::string> missing;
  absl::Status bad;
  for (const auto& [name, shape] : LlamaTensors(config)) {
    const auto it = found.find(name);
    if (it == found.end()) {
      missing.push_back(name);
      continue;
    }
    FoundTensor tensor = it->second;
    if (HasVocabularyRows(name)) DropPadRow(shape, &tensor.tensor);
    if (bad.ok()) bad = CheckTensor(name, tensor, shape);
    out[name] = tensor.tensor;
  }
  if (!missing.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: missing {} of the tensors of model_type '{}': {}", directory,
        missing.size(), config.model_type, JoinTensorNames(missing)));
  }
  SL_RETURN_IF_ERROR(bad);
  SL_RETURN_IF_ERROR(CheckUnknown(config, found, out));
  return out;
}

}  // namespace sinklora
