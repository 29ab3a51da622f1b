// A Hugging Face model directory on disk: config, weights (one safetensors file
// or shards with an index), tokenizer.
//
// Thread-safe after Open. Tensor views live as long as the ModelFiles.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_MODEL_FILES_H_
#define SINKLORA_COMMON_WEIGHTS_MODEL_FILES_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/weights/llama_config.h"
#include "common/weights/safetensors.h"

namespace sinklora {

class ModelFiles {
 public:
  // Opens and checks: every tensor of the architecture is there with the right
  // shape and a float dtype, none is unknown (rotary inv_freq buffers are
  // skipped; lm_head.weight is optional when tied). Errors name the file and
  // the tensor; missing ones are listed all at once.
  //
  // The pad row: embedding and head may have exactly one row more than
  // vocab_size, as LongLoRA leaves behind by adding [PAD] (32001 rows against
  // 32000). It is cut off: no token id reaches it, and as a logit it would only
  // take probability from real tokens. Any other difference is an error. Where
  // vocab_size counts the row (32001 both), it is a token like any other.
  static absl::StatusOr<std::unique_ptr<ModelFiles>> Open(
      const std::string& directory);

  const std::string& directory() const { return directory_; }
  const LlamaConfig& config() const { return config_; }
  const std::string& config_json() const { return config_json_; }
  // By Hugging Face name, e.g. "model.layers.0.self_attn.q_proj.weight".
  // kNotFound otherwise.
  absl::StatusOr<StoredTensor> tensor(const std::string& name) const;
  std::vector<std::string> tensor_names() const;
  // Reads all weights. kInvalidArgument naming every tensor that has a NaN or
  // an infinity, with the place of its first.
  absl::Status CheckFinite() const;

 private:
  ModelFiles() = default;
  std::string directory_;
  std::string config_json_;
  LlamaConfig config_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::map<std::string, StoredTensor> tensors_;
};

// Whether `found` is the shape `expected` [vocab, hidden] with LongLoRA's pad
// row at its end.
bool HasPadRow(const std::vector<int64_t>& found,
               const std::vector<int64_t>& expected);

// (name, shape) of every tensor a model of `config` has, in a fixed order: the
// one list that loading, checking and exporting share. Biases and q/k norms
// where the architecture has them; without lm_head.weight when tied.
std::vector<std::pair<std::string, std::vector<int64_t>>> LlamaTensors(
    const LlamaConfig& config);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_MODEL_FILES_H_
