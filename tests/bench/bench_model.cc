// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/bench_model.h"

#include <fmt/format.h>

#include "common/base/random.h"
#include "common/base/status.h"
#include "common/gguf/gguf.h"
#include "common/weights/random_model.h"

namespace sinklora::bench {
namespace {

LlamaConfig ConfigOf(const ModelOptions& o) {
  LlamaConfig config;
  config.num_layers = o.layers;
  config.hidden_size = o.dim;
  config.intermediate_size = o.intermediate;
  config.num_heads = o.heads;
  config.num_kv_heads = o.kv_heads;
  config.head_dim = o.dim / o.heads;
  config.vocab_size = o.vocab;
  config.max_position_embeddings = o.context;
  return config;
}

// Returns where the model is, below `made` unless it was given.
absl::StatusOr<std::string> Prepare(const ModelOptions& options,
                                    const TempDir& made) {
  if (!options.directory.empty()) return options.directory;
  const std::string directory = JoinPath(made.path(), "model");
  if (!options.gguf.empty()) {
    SL_RETURN_IF_ERROR(ImportGguf(options.gguf, directory));
    return directory;
  }
  if (options.heads < 1 || options.dim % options.heads != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "--heads is {}, must divide --dim {}", options.heads, options.dim));
  }
  SL_RETURN_IF_ERROR(
      WriteRandomModel(directory, ToJson(ConfigOf(options)), /*seed=*/1));
  return directory;
}

}  // namespace

absl::StatusOr<BenchModel> BenchModel::Open(const ModelOptions& options) {
  if (!options.directory.empty() && !options.gguf.empty()) {
    return absl::InvalidArgumentError("give --model or --gguf, not both");
  }
  BenchModel out;
  SL_ASSIGN_OR_RETURN(out.made_, TempDir::Create());
  SL_ASSIGN_OR_RETURN(const std::string directory,
                      Prepare(options, *out.made_));
  SL_ASSIGN_OR_RETURN(out.files_, ModelFiles::Open(directory));
  out.config_ = out.files_->config();
  return out;
}

int64_t BenchModel::layer_matrix_parameters() const {
  const LlamaConfig& c = config();
  const int64_t q = c.num_heads * c.head_dim;
  const int64_t kv = c.num_kv_heads * c.head_dim;
  return c.num_layers * (c.hidden_size * (2 * q + 2 * kv) +
                         3 * c.hidden_size * c.intermediate_size);
}

int64_t BenchModel::head_parameters() const {
  return config().vocab_size * config().hidden_size;
}

std::vector<int32_t> RandomTokens(int64_t count, int64_t vocab, uint64_t seed) {
  const CounterRng rng(seed, /*stream=*/0);
  std::vector<int32_t> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<int32_t>(rng.Below(i, static_cast<uint64_t>(vocab)));
  }
  return out;
}

}  // namespace sinklora::bench
