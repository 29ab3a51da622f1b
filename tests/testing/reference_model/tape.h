// A minimal reverse-mode tape over double matrices: the oracle of gradient
// tests. Naive on purpose, and shares nothing with the kernels.
//
// Not thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_REFERENCE_MODEL_TAPE_H_
#define SINKLORA_TESTS_TESTING_REFERENCE_MODEL_TAPE_H_

#include <cstdint>
#include <functional>
#include <vector>

namespace sinklora::testing {

// allowed[h][i * tokens + j]: query head h at token i may look at token j.
using DenseMask = std::vector<std::vector<uint8_t>>;

class Tape {
 public:
  using Var = int;

  Var Input(int64_t rows, int64_t cols, std::vector<double> values);
  Var MatMulTransposed(Var x, Var w);  // x [m, k] w [n, k]^T
  Var Add(Var a, Var b);
  Var Scale(Var x, double factor);
  Var AddBias(Var x, Var bias);  // [1, cols], to every row
  // Of every run of as many columns as the weight has.
  Var RmsNorm(Var x, Var weight, double eps);
  // Half-split rotation of every head by position / factor.
  Var Rope(Var x, int64_t head_dim, const std::vector<int32_t>& positions,
           double theta, double factor);
  Var Attention(Var q, Var k, Var v, int64_t head_dim, const DenseMask& mask);
  Var SwiGlu(Var gate, Var up);
  Var Gather(Var table, const std::vector<int32_t>& ids);
  // Sum over labelled rows of -log softmax(logits)[label], times `scale`.
  Var Nll(Var logits, const std::vector<int32_t>& labels, double scale);

  void Backward(Var output);
  const std::vector<double>& value(Var v) const { return nodes_[v].value; }
  const std::vector<double>& grad(Var v) const { return nodes_[v].grad; }

 private:
  struct Node {
    int64_t rows = 0, cols = 0;
    std::vector<double> value, grad;
    std::function<void()> backward;
  };
  Var New(int64_t rows, int64_t cols);
  Node& at(Var v) { return nodes_[v]; }
  std::vector<Node> nodes_;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_TESTING_REFERENCE_MODEL_TAPE_H_
