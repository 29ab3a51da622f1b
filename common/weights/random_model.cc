// SPDX-License-Identifier: Apache-2.0
#include "common/weights/random_model.h"

#include <cmath>
#include <deque>
#include <map>
#include <vector>

#include "common/base/files.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/weights/llama_config.h"
#include "common/weights/model_files.h"
#include "common/weights/safetensors.h"

namespace sinklora {
namespace {

constexpr double kDeviation = 0.02;

std::vector<float> InitialValues(const std::string& name,
                                 const std::vector<int64_t>& shape,
                                 int64_t num_layers, const CounterRng& rng) {
  int64_t n = 1;
  for (int64_t dim : shape) n *= dim;
  if (name.ends_with(".bias")) return std::vector<float>(n, 0.0f);
  if (shape.size() == 1) return std::vector<float>(n, 1.0f);
  const bool writes_residual = name.find("o_proj") != std::string::npos ||
                               name.find("down_proj") != std::string::npos;
  const double deviation =
      writes_residual
          ? kDeviation / std::sqrt(2.0 * static_cast<double>(num_layers))
          : kDeviation;
  std::vector<float> values(n);
  for (int64_t i = 0; i < n; ++i) {
    values[i] = static_cast<float>(deviation * rng.Normal(i));
  }
  return values;
}

}  // namespace

absl::Status WriteRandomModel(const std::string& directory,
                              std::string_view config_json, uint64_t seed) {
  SL_ASSIGN_OR_RETURN(const LlamaConfig config, ParseLlamaConfig(config_json));
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  std::deque<TensorBytes> storage;
  std::map<std::string, StoredTensor> tensors;
  uint64_t stream = 0;
  for (const auto& [name, shape] : LlamaTensors(config)) {
    const std::vector<float> values = InitialValues(
        name, shape, config.num_layers, CounterRng(seed, stream++));
    storage.emplace_back(values.data(), shape, FileDType::kBF16);
    tensors[name] = storage.back().view();
  }
  SL_RETURN_IF_ERROR(WriteSafetensors(JoinPath(directory, "model.safetensors"),
                                      tensors, {{"format", "pt"}}));
  return WriteFileAtomic(JoinPath(directory, "config.json"), config_json);
}

}  // namespace sinklora
