// Inputs, patterns and one-call forward/backward for the attention tests.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_KERNELS_ATTENTION_ATTENTION_FIXTURE_H_
#define SINKLORA_TESTS_KERNELS_ATTENTION_ATTENTION_FIXTURE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {

// Normal inputs: |q . k| / sqrt(d) stays below this.
inline constexpr double kLargestScore = 6.0;

// What tests of every backend run on; "bf16" is the tested one with bf16
// products.
inline const std::string kBackends[] = {"reference", "tested", "bf16"};
std::unique_ptr<Backend> OpenFor(const std::string& name);
DType ProductOf(const std::string& name);

struct NamedPattern {
  std::string name;
  AttentionPattern pattern;
};

// A row of the pattern table of algorithms.md over documents of the given
// lengths, with `gap` uncovered tokens after each. Names: full, short, s2,
// s2_sinks, sr (S&R only), sf; each with _w<n> for a window of n tokens.
NamedPattern MakePattern(const std::string& name, int64_t heads,
                         int64_t group_size,
                         const std::vector<int64_t>& lengths, int64_t gap = 0);
std::vector<std::string> PatternNames();

struct AttentionInputs {
  testing::HostTensor q, k, v, dout;
  float scale = 0.0f;
  DType product_dtype = DType::kF32;
};

// `padding` > 0 makes strides and alignment odd.
AttentionInputs MakeInputs(int64_t tokens, int64_t heads, int64_t kv_heads,
                           int64_t head_dim, uint64_t seed, int64_t padding = 0,
                           double score_scale = 1.0);

// Tokens `tokens` of all of it, the first `lead` with NaN for query and
// gradient.
AttentionInputs Pick(const AttentionInputs& in,
                     const std::vector<int64_t>& tokens, int64_t lead);

struct AttentionResults {
  testing::HostTensor out, lse, dq, dk, dv;
};

// Outputs start as NaN and must come back finite with their gaps untouched.
AttentionResults RunForward(Backend& backend, const AttentionInputs& in,
                            const AttentionPattern& pattern,
                            int64_t padding = 0);
AttentionResults RunBoth(Backend& backend, const AttentionInputs& in,
                         const AttentionPattern& pattern, int64_t padding = 0);

}  // namespace sinklora::kernels

#endif  // SINKLORA_TESTS_KERNELS_ATTENTION_ATTENTION_FIXTURE_H_
