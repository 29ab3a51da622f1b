// Masked softmax attention and its loss in double, from a dense mask that is
// expanded from the rule of algorithms.md word by word. Shares no code with the
// kernels.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_KERNELS_ATTENTION_DENSE_ATTENTION_H_
#define SINKLORA_TESTS_KERNELS_ATTENTION_DENSE_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "kernels/attention/attention.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {

// [tokens, heads, dim] in double.
struct Cube {
  int64_t tokens = 0, heads = 0, dim = 0;
  std::vector<double> values;

  Cube(int64_t t, int64_t h, int64_t d)
      : tokens(t), heads(h), dim(d), values(t * h * d, 0.0) {}
  explicit Cube(const testing::HostTensor& x);
  double& at(int64_t t, int64_t h, int64_t d) {
    return values[(t * heads + h) * dim + d];
  }
  double at(int64_t t, int64_t h, int64_t d) const {
    return values[(t * heads + h) * dim + d];
  }
};

// Whether query head h of `heads` at token i may attend to token j.
bool Allowed(const AttentionPattern& pattern, int64_t heads, int64_t h,
             int64_t i, int64_t j);

// Number of allowed (h, i, j), by counting.
int64_t CountAllowed(const AttentionPattern& pattern, int64_t heads,
                     int64_t tokens);

// Output of attention; tokens without any allowed key get 0.
Cube DenseAttention(const Cube& q, const Cube& k, const Cube& v,
                    const AttentionPattern& pattern, double scale);

}  // namespace sinklora::kernels

#endif  // SINKLORA_TESTS_KERNELS_ATTENTION_DENSE_ATTENTION_H_
