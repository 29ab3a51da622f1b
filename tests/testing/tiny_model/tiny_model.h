// A tiny random Llama as a Hugging Face directory, with a tokenizer that really
// works: what tests of every layer load, train and serve.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_TINY_MODEL_TINY_MODEL_H_
#define SINKLORA_TESTS_TESTING_TINY_MODEL_TINY_MODEL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/weights/llama_config.h"

namespace sinklora::testing {

struct TinyModelOptions {
  int64_t layers = 2;
  int64_t hidden = 32;
  int64_t intermediate = 64;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t head_dim = 8;
  int64_t max_position_embeddings = 64;
  int32_t vocab_size = 320;  // in [258, 640]: 256 bytes, 2 special tokens
  bool tied = true;
  double rope_factor = 1.0;
  double rope_theta = 10000.0;
  uint64_t seed = 1;
};

// The config.json that WriteTinyModel writes. Begin token 0, end token 1.
LlamaConfig TinyModelConfig(const TinyModelOptions& options);

// Some paragraphs of English that the tokenizer was trained on: text for tests
// that need any. About 3,000 bytes.
std::string_view TinyModelText();

// Writes config.json, model.safetensors (bf16), tokenizer.json and
// tokenizer_config.json into `dir`, made when absent. Equal options give equal
// bytes.
absl::Status WriteTinyModel(const std::string& dir,
                            const TinyModelOptions& options);

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_TESTING_TINY_MODEL_TINY_MODEL_H_
