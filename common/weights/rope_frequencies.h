// The rotation of RoPE for every kind of scaling, in double: what the model,
// and files that carry the scaled frequencies themselves, are made from.
//
// Sources: RoFormer (2104.09864), position interpolation (2306.15595), dynamic
// NTK and YaRN (2309.00071), Llama 3.1; details as in transformers'
// modeling_rope_utils.py. Pure functions.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_ROPE_FREQUENCIES_H_
#define SINKLORA_COMMON_WEIGHTS_ROPE_FREQUENCIES_H_

#include <cstdint>
#include <vector>

#include "common/weights/llama_config.h"

namespace sinklora {

struct RopeFrequencies {
  // Radians a position turns pair i by, [head_dim / 2]: theta^(-2i / head_dim)
  // before scaling.
  std::vector<double> inverse;
  // Factor of cos and sin, and so of queries and keys; 1 but for kYarn.
  double attention = 1;
};

// With `factor` in place of config.rope_factor. `length` is that of the whole
// sequence: kDynamic stretches the base from max_position_embeddings on, the
// other kinds do not look at it.
RopeFrequencies ComputeRopeFrequencies(const LlamaConfig& config, double factor,
                                       int64_t length);

// Whether the frequencies of two lengths differ.
inline bool DependsOnLength(const LlamaConfig& config) {
  return config.rope.kind == RopeKind::kDynamic;
}

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_ROPE_FREQUENCIES_H_
