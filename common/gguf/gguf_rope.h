// RoPE scaling in GGUF metadata, in the ways llama.cpp has: linear and YaRN as
// keys, Llama 3.1's as a tensor of factors that divide the frequencies.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_GGUF_GGUF_ROPE_H_
#define SINKLORA_COMMON_GGUF_GGUF_ROPE_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/gguf/gguf_file.h"
#include "common/gguf/gguf_writer.h"
#include "common/weights/llama_config.h"

namespace sinklora {

// The number that was meant by a value that came as a float: the shortest
// decimal that gives it.
double ShortestDecimal(double value);

// Adds the keys below `architecture`. kInvalidArgument starting with `what` for
// scaling that llama.cpp has no equal of: dynamic, YaRN with other betas than
// 32 and 1 or without truncation, Llama 3.1's other than for llama.
absl::Status AddRopeScaling(const LlamaConfig& config,
                            const std::string& architecture,
                            const std::string& what, GgufHeader* header);

// Values of rope_freqs.weight, [head_dim / 2]; empty for other kinds than
// kLlama3.
std::vector<float> RopeFreqs(const LlamaConfig& config);

// The reverse of AddRopeScaling: rope_factor and rope.
// REQUIRES: *config has its max_position_embeddings.
absl::Status ParseRopeScaling(const GgufFile& file,
                              const std::string& architecture,
                              LlamaConfig* config);

// The Llama 3.1 scaling whose factors are `factors`, low_freq_factor 1. The
// file does not carry its parameters, but they follow from the factors: a
// smaller original context with smaller frequency factors is the same scaling.
// kInvalidArgument starting with `what` when no such scaling has these factors.
// REQUIRES: *config has its rope_theta and head_dim.
absl::Status FitLlama3Scaling(std::span<const float> factors,
                              const std::string& what, LlamaConfig* config);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_GGUF_GGUF_ROPE_H_
