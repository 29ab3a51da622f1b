// SPDX-License-Identifier: Apache-2.0
#include "common/weights/random_model.h"

#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "common/base/files.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/weights/llama_config.h"
#include "common/weights/model_files.h"
#include "common/weights/safetensors.h"
#include "common/weights/safetensors_writer.h"

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
  // Each tensor has a stream of its own, by its place in the model.
  std::vector<TensorSpec> specs;
  std::map<std::string, uint64_t> streams;
  for (const auto& [name, shape] : LlamaTensors(config)) {
    streams[name] = specs.size();
    specs.push_back({name, FileDType::kBF16, shape});
  }
  SL_ASSIGN_OR_RETURN(const auto writer,
                      ModelWeightsWriter::Create(directory, std::move(specs),
                                                 {{"format", "pt"}}));
  for (const TensorSpec& spec : writer->tensors()) {
    const std::vector<float> values =
        InitialValues(spec.name, spec.shape, config.num_layers,
                      CounterRng(seed, streams.at(spec.name)));
    const TensorBytes bytes(values.data(), spec.shape, spec.dtype);
    SL_RETURN_IF_ERROR(writer->Append(spec.name, bytes.view().bytes));
  }
  SL_RETURN_IF_ERROR(writer->Finish());
  return WriteFileAtomic(JoinPath(directory, "config.json"), config_json);
}

}  // namespace sinklora
