// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {
namespace {

// The gradients in double until the last token, so that their sums carry no
// f32 rounding.
struct Gradients {
  std::vector<double> dweight;  // [vocab, dim], only when asked for
  std::vector<double> dhidden;  // [dim] of the current token
};

std::vector<double> Logits(const LinearCrossEntropyParams& p, int64_t t) {
  const int64_t dim = p.hidden.shape[1];
  std::vector<double> logits(p.vocab(), 0.0);
  if (!p.quantized_weight.empty()) {
    std::vector<float> row(p.vocab());
    QuantizedMatMul({.a = p.hidden.Rows(t, 1),
                     .b = p.quantized_weight,
                     .out = TensorView(row.data(), DType::kF32, {1, p.vocab()}),
                     .products = p.products});
    logits.assign(row.begin(), row.end());
    return logits;
  }
  for (int64_t v = 0; v < p.vocab(); ++v) {
    for (int64_t i = 0; i < dim; ++i) {
      logits[v] += Load(p.hidden, t, i) * Load(p.weight, v, i);
    }
  }
  return logits;
}

double LogSumExp(const std::vector<double>& logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (double x : logits) sum += std::exp(x - top);
  return top + std::log(sum);
}

void AddGradients(const LinearCrossEntropyParams& p, int64_t t, int32_t label,
                  const std::vector<double>& logits, double lse,
                  Gradients* gradients) {
  const int64_t dim = p.weight.shape[1];
  for (int64_t v = 0; v < p.weight.shape[0]; ++v) {
    const double g =
        p.loss_scale * (std::exp(logits[v] - lse) - (v == label ? 1.0 : 0.0));
    for (int64_t i = 0; i < dim; ++i) {
      gradients->dhidden[i] += g * Load(p.weight, v, i);
      if (!p.dweight.empty()) {
        gradients->dweight[v * dim + i] += g * Load(p.hidden, t, i);
      }
    }
  }
}

void AddToDweight(const LinearCrossEntropyParams& p,
                  const Gradients& gradients) {
  const int64_t dim = p.weight.shape[1];
  for (int64_t v = 0; v < p.weight.shape[0]; ++v) {
    for (int64_t i = 0; i < dim; ++i) {
      Store(p.dweight, Load(p.dweight, v, i) + gradients.dweight[v * dim + i],
            v, i);
    }
  }
}

}  // namespace

void LinearCrossEntropy(const LinearCrossEntropyParams& p) {
  const int64_t dim = p.hidden.shape[1];
  Gradients gradients;
  if (!p.dweight.empty()) gradients.dweight.assign(p.dweight.num_elements(), 0);
  *p.nll_sum = 0.0;
  *p.supervised_tokens = 0;
  for (int64_t t = 0; t < p.hidden.shape[0]; ++t) {
    const int32_t label = LoadInt(p.labels, t);
    double nll = 0.0;
    gradients.dhidden.assign(dim, 0.0);
    if (label >= 0) {
      const std::vector<double> logits = Logits(p, t);
      const double lse = LogSumExp(logits);
      nll = lse - logits[label];
      if (p.quantized_weight.empty()) {
        AddGradients(p, t, label, logits, lse, &gradients);
      }
      *p.nll_sum += nll;
      ++*p.supervised_tokens;
    }
    if (!p.nll.empty()) Store(p.nll, nll, t);
    if (p.dhidden.empty()) continue;
    for (int64_t i = 0; i < dim; ++i) {
      Store(p.dhidden, gradients.dhidden[i], t, i);
    }
  }
  if (!p.dweight.empty()) AddToDweight(p, gradients);
}

}  // namespace sinklora::kernels::reference
