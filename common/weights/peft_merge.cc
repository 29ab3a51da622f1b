// SPDX-License-Identifier: Apache-2.0
#include <deque>
#include <utility>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/carried_files.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_adapter.h"
#include "common/weights/peft_names.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace sinklora {
namespace {

// A shard is built in memory before it is written.
constexpr int64_t kMaxShardBytes = int64_t{4} << 30;
constexpr int64_t kBf16Bytes = 2;

using TensorList = std::vector<std::pair<std::string, std::vector<int64_t>>>;

int64_t Bf16Bytes(const std::vector<int64_t>& shape) {
  int64_t bytes = kBf16Bytes;
  for (int64_t dim : shape) bytes *= dim;
  return bytes;
}

// weight += scale * b * a, the product accumulated in f32.
void AddLowRank(const HostTensor& a, const HostTensor& b, float scale,
                std::vector<float>* weight) {
  const int64_t rank = a.shape[0], in = a.shape[1], out = b.shape[0];
  std::vector<float> delta(in);
  for (int64_t row = 0; row < out; ++row) {
    std::fill(delta.begin(), delta.end(), 0.0f);
    for (int64_t r = 0; r < rank; ++r) {
      const float factor = b.values[row * rank + r];
      const float* a_row = a.values.data() + r * in;
      for (int64_t i = 0; i < in; ++i) delta[i] += factor * a_row[i];
    }
    float* target = weight->data() + row * in;
    for (int64_t i = 0; i < in; ++i) target[i] += scale * delta[i];
  }
}

absl::StatusOr<std::vector<float>> MergedValues(const ModelFiles& base,
                                                const PeftAdapter& adapter,
                                                const std::string& name) {
  const auto full = adapter.full.find(name);
  if (full != adapter.full.end()) return full->second.values;
  SL_ASSIGN_OR_RETURN(const StoredTensor stored, base.tensor(name));
  SL_ASSIGN_OR_RETURN(std::vector<float> values, ToF32(stored));
  const std::string module = name.substr(0, name.size() - 7);  // ".weight"
  const auto a = adapter.lora_a.find(module);
  if (a != adapter.lora_a.end()) {
    const double scale = adapter.lora_alpha / static_cast<double>(adapter.rank);
    AddLowRank(a->second, adapter.lora_b.at(module), static_cast<float>(scale),
               &values);
  }
  return values;
}

absl::Status WriteShard(const ModelFiles& base, const PeftAdapter& adapter,
                        const TensorList& list, const std::string& path) {
  std::deque<TensorBytes> storage;
  std::map<std::string, StoredTensor> tensors;
  for (const auto& [name, shape] : list) {
    SL_ASSIGN_OR_RETURN(const std::vector<float> values,
                        MergedValues(base, adapter, name));
    storage.emplace_back(values.data(), shape, FileDType::kBF16);
    tensors[name] = storage.back().view();
  }
  return WriteSafetensors(path, tensors, {{"format", "pt"}});
}

std::vector<TensorList> SplitIntoShards(const LlamaConfig& config) {
  std::vector<TensorList> shards(1);
  int64_t bytes = 0;
  for (auto& [name, shape] : LlamaTensors(config)) {
    const int64_t size = Bf16Bytes(shape);
    if (bytes + size > kMaxShardBytes && !shards.back().empty()) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += size;
    shards.back().push_back({name, shape});
  }
  return shards;
}

absl::Status WriteWeights(const ModelFiles& base, const PeftAdapter& adapter,
                          const std::string& out) {
  const std::vector<TensorList> shards = SplitIntoShards(base.config());
  if (shards.size() == 1) {
    return WriteShard(base, adapter, shards[0],
                      JoinPath(out, "model.safetensors"));
  }
  nlohmann::json index;
  int64_t total_bytes = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file =
        fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    SL_RETURN_IF_ERROR(
        WriteShard(base, adapter, shards[i], JoinPath(out, file)));
    for (const auto& [name, shape] : shards[i]) {
      index["weight_map"][name] = file;
      total_bytes += Bf16Bytes(shape);
    }
  }
  index["metadata"]["total_size"] = total_bytes;
  return WriteFileAtomic(JoinPath(out, "model.safetensors.index.json"),
                         index.dump(2) + "\n");
}

}  // namespace

absl::Status MergeAdapter(const std::string& base_directory,
                          const PeftAdapter& adapter,
                          const std::string& out_directory) {
  SL_ASSIGN_OR_RETURN(const auto base, ModelFiles::Open(base_directory));
  const absl::Status fits = CheckAdapter(adapter, base->config());
  if (!fits.ok()) {
    return absl::FailedPreconditionError(
        fmt::format("the adapter does not fit {}: {}", base_directory,
                    std::string(fits.message())));
  }
  // An adapter that does not say which context it is for leaves the base's.
  const double rope_factor = adapter.context_tokens > 0
                                 ? adapter.rope_factor
                                 : base->config().rope_factor;
  SL_ASSIGN_OR_RETURN(const std::string config,
                      WithRopeFactor(base->config_json(), rope_factor));
  SL_RETURN_IF_ERROR(MakeDirs(out_directory));
  SL_RETURN_IF_ERROR(WriteWeights(*base, adapter, out_directory));
  SL_RETURN_IF_ERROR(CopyCarriedFiles(base_directory, out_directory));
  return WriteFileAtomic(JoinPath(out_directory, "config.json"), config);
}

}  // namespace sinklora
