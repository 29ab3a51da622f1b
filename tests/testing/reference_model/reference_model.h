// A Llama in double precision, written from the papers alone: forward, loss and
// all gradients on a tape, with the biases, q/k norms and sliding windows of
// its relatives, and linear RoPE scaling. The oracle of the model's tests.
//
// Thread-compatible.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_REFERENCE_MODEL_REFERENCE_MODEL_H_
#define SINKLORA_TESTS_TESTING_REFERENCE_MODEL_REFERENCE_MODEL_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/weights/llama_config.h"
#include "tests/testing/reference_model/tape.h"

namespace sinklora::testing {

struct ReferenceMatrix {
  int64_t rows = 0, cols = 0;
  std::vector<double> values;
};

// Tensors by their Hugging Face names; LoRA matrices as "<module>.lora_A" and
// "<module>.lora_B".
struct ReferenceModel {
  LlamaConfig config;
  double rope_factor = 1.0;
  double lora_scale = 0.0;
  std::map<std::string, ReferenceMatrix> tensors;
};

// One document of a batch with the numbers of the attention rule.
struct ReferenceDocument {
  int64_t tokens = 0;
  int64_t group_size = 0;
};

struct ReferenceBatch {
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;  // -1: not supervised
  std::vector<ReferenceDocument> documents;
  int64_t shifted_heads = 0;
  int64_t sink_tokens = 0;
};

struct ReferenceResult {
  double loss = 0;             // sum of nll times loss_scale
  std::vector<double> logits;  // [tokens, vocab]
  std::map<std::string, std::vector<double>> gradients;
};

// The rule of the attention patterns, expanded literally: head h at i may look
// at j when both are of one document, j <= i, and j is one of its first
// sink_tokens or in i's group; the last shifted_heads heads have groups shifted
// by half. A document that fits in one group has one. With a window (not 0), j
// is one of the last `window` tokens up to i besides.
DenseMask ExpandMask(const ReferenceBatch& batch, int64_t heads,
                     int64_t window = 0);

ReferenceResult RunReference(const ReferenceModel& model,
                             const ReferenceBatch& batch, double loss_scale);

// Random weights, rounded to float so that files hold exactly these values.
// Norms are near 1, biases near 0.
ReferenceModel RandomReferenceModel(const LlamaConfig& config, uint64_t seed,
                                    double deviation = 0.25);
// Writes config.json and model.safetensors (f32, without the LoRA matrices).
absl::Status WriteReferenceModel(const ReferenceModel& model,
                                 const std::string& directory);

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_TESTING_REFERENCE_MODEL_REFERENCE_MODEL_H_
