// The model that bench_step runs: random weights of a shape, or a directory or
// GGUF file that is given.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_BENCH_BENCH_MODEL_H_
#define SINKLORA_TESTS_BENCH_BENCH_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "common/weights/model_files.h"

namespace sinklora::bench {

struct ModelOptions {
  // Hugging Face directory, or GGUF file; at most one. With one, the shape is
  // its own.
  std::string directory;
  std::string gguf;
  int64_t dim = 512;
  int64_t layers = 8;
  int64_t heads = 8;
  int64_t kv_heads = 8;
  int64_t intermediate = 1376;
  int64_t vocab = 32000;
  int64_t context = 4096;
};

class BenchModel {
 public:
  static absl::StatusOr<BenchModel> Open(const ModelOptions& options);

  const LlamaConfig& config() const { return config_; }
  // REQUIRES: not closed.
  const ModelFiles& files() const { return *files_; }
  // Once the weights are loaded, as the services do: mapped files count as
  // resident memory.
  void CloseFiles() { files_.reset(); }
  // Parameters of the seven matrices of all layers, and of the output matrix.
  int64_t layer_matrix_parameters() const;
  int64_t head_parameters() const;

 private:
  std::unique_ptr<TempDir> made_;  // null for a given directory
  std::unique_ptr<ModelFiles> files_;
  LlamaConfig config_;
};

// Uniform over the vocabulary; a function of `seed`.
std::vector<int32_t> RandomTokens(int64_t count, int64_t vocab, uint64_t seed);

}  // namespace sinklora::bench

#endif  // SINKLORA_TESTS_BENCH_BENCH_MODEL_H_
