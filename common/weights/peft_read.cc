// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/file_dtype.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/peft_names.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

// Where a tensor of the files goes.
struct Place {
  std::map<std::string, HostTensor>* group;
  std::string key;
};
using Places = std::map<std::string, Place>;

// The two files that hold tensors, and what torch calls them.
absl::Status RefusePickle(const std::string& directory, const char* pickle,
                          const char* safetensors) {
  if (!FileExists(JoinPath(directory, pickle)) ||
      FileExists(JoinPath(directory, safetensors))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(fmt::format(
      "{} is a torch pickle, which runs code when it is read and is refused; "
      "convert it where it was made: safetensors.torch.save_file(torch.load("
      "'{}', weights_only=True), '{}')",
      JoinPath(directory, pickle), pickle, safetensors));
}

absl::StatusOr<PeftConfig> ReadConfig(const std::string& path) {
  SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParsePeftConfig(text, path);
}

// Context and factor of the tensors' metadata, for a file that lost its
// configuration's extra keys; where both speak they must agree.
absl::Status ApplyMetadata(const std::map<std::string, std::string>& metadata,
                           const std::string& path, PeftAdapter* adapter) {
  const auto context = metadata.find(kContextTokensKey);
  const auto rope = metadata.find(kRopeFactorKey);
  if (context == metadata.end() || rope == metadata.end()) {
    return absl::OkStatus();
  }
  int64_t context_tokens = 0;
  double rope_factor = 0;
  if (!absl::SimpleAtoi(context->second, &context_tokens) ||
      !absl::SimpleAtod(rope->second, &rope_factor) || context_tokens < 0) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: metadata {} '{}' or {} '{}' is not a number", path,
        kContextTokensKey, context->second, kRopeFactorKey, rope->second));
  }
  if (adapter->context_tokens == 0) {
    adapter->context_tokens = context_tokens;
    adapter->rope_factor = rope_factor;
  }
  if (adapter->context_tokens != context_tokens ||
      adapter->rope_factor != rope_factor) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: context {} and rope factor {} differ from {} and {} of {}", path,
        context_tokens, rope_factor, adapter->context_tokens,
        adapter->rope_factor, kAdapterConfigFile));
  }
  return absl::OkStatus();
}

Places AdapterPlaces(const LlamaConfig& base, PeftAdapter* adapter) {
  Places places;
  for (const auto& [name, shape] : BaseShapes(base)) {
    const std::string module = ModuleOfTensor(name);
    places[LoraAName(module)] = {&adapter->lora_a, module};
    places[LoraBName(module)] = {&adapter->lora_b, module};
    places[LoraMagnitudeName(module)] = {&adapter->lora_magnitude, module};
    places[FullName(name)] = {&adapter->full, name};
  }
  return places;
}

Places TrainableParamsPlaces(const LlamaConfig& base, PeftAdapter* adapter) {
  Places places;
  for (const auto& [name, shape] : BaseShapes(base)) {
    places[name] = {&adapter->full, name};
  }
  return places;
}

// Rows that the base has no tokens for are cut off, up to the limit.
void DropExtraRows(const LlamaConfig& base, const std::string& name,
                   HostTensor* tensor, PeftAdapter* adapter) {
  if (name != "model.embed_tokens.weight" && name != "lm_head.weight") return;
  if (tensor->shape.size() != 2 || tensor->shape[1] != base.hidden_size) return;
  const int64_t extra = tensor->shape[0] - base.vocab_size;
  if (extra < 1 || extra > kMaxDroppedVocabRows) return;
  const size_t row_bytes =
      tensor->bytes.size() / static_cast<size_t>(tensor->shape[0]);
  tensor->shape[0] = base.vocab_size;
  tensor->bytes.resize(row_bytes * static_cast<size_t>(base.vocab_size));
  adapter->dropped_vocab_rows = std::max(adapter->dropped_vocab_rows, extra);
}

absl::Status ReadTensors(const SafetensorsFile& file, const std::string& path,
                         const LlamaConfig& base, const Places& places,
                         PeftAdapter* adapter) {
  for (const auto& [name, stored] : file.tensors()) {
    const auto place = places.find(name);
    if (place == places.end()) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: tensor '{}' is not supported or not of the base ({} layers)",
          path, name, base.num_layers));
    }
    if (!IsFloat(stored.dtype)) {
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' is {}, must be F32, F16 or BF16", path,
                      name, FileDTypeName(stored.dtype)));
    }
    const auto [at, added] = place->second.group->insert(
        {place->second.key, HostTensor::Copy(stored)});
    if (!added) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: tensor '{}' is in {}, too", path, name, kAdapterModelFile));
    }
    DropExtraRows(base, at->first, &at->second, adapter);
  }
  return absl::OkStatus();
}

// A file whose configuration does not mention them brings fully tuned tensors
// all the same: LongLoRA's second file, and the embedding and head that PEFT
// adds when the vocabulary was resized. The configuration learns of them.
absl::Status AddModulesToSave(const LlamaConfig& base, PeftAdapter* adapter) {
  SL_ASSIGN_OR_RETURN(const PeftTargets targets,
                      ResolveTargets(*adapter, base));
  for (const auto& [name, tensor] : adapter->full) {
    if (targets.full.contains(name)) continue;
    adapter->modules_to_save.push_back(ModuleOfTensor(name));
  }
  return absl::OkStatus();
}

absl::Status ReadTrainableParams(const std::string& path,
                                 const LlamaConfig& base,
                                 PeftAdapter* adapter) {
  SL_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path));
  SL_RETURN_IF_ERROR(ReadTensors(
      *file, path, base, TrainableParamsPlaces(base, adapter), adapter));
  // LongLoRA trains the parameters in place, so that a tied head moves with the
  // embedding.
  const auto embedding = adapter->full.find("model.embed_tokens.weight");
  if (base.tie_word_embeddings && embedding != adapter->full.end()) {
    adapter->full.insert({"lm_head.weight", embedding->second});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PeftAdapter> ReadPeftAdapter(const std::string& directory,
                                            const LlamaConfig& base) {
  SL_RETURN_IF_ERROR(
      RefusePickle(directory, "adapter_model.bin", kAdapterModelFile));
  SL_RETURN_IF_ERROR(
      RefusePickle(directory, "trainable_params.bin", kTrainableParamsFile));
  PeftAdapter adapter;
  SL_ASSIGN_OR_RETURN(static_cast<PeftConfig&>(adapter),
                      ReadConfig(JoinPath(directory, kAdapterConfigFile)));
  const std::string path = JoinPath(directory, kAdapterModelFile);
  SL_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path));
  SL_RETURN_IF_ERROR(ApplyMetadata(file->metadata(), path, &adapter));
  SL_RETURN_IF_ERROR(
      ReadTensors(*file, path, base, AdapterPlaces(base, &adapter), &adapter));
  const std::string trainable = JoinPath(directory, kTrainableParamsFile);
  if (FileExists(trainable)) {
    SL_RETURN_IF_ERROR(ReadTrainableParams(trainable, base, &adapter));
  }
  absl::Status checked = AddModulesToSave(base, &adapter);
  if (checked.ok()) checked = CheckAdapter(adapter, base);
  if (!checked.ok()) return Annotate(checked, directory);
  return adapter;
}

}  // namespace sinklora
