// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {
namespace {

// Where one operand is bf16 the other one is rounded to it first.
double Operand(const ConstTensorView& view, bool round, int64_t i, int64_t j) {
  const double value = Load(view, i, j);
  return round ? FromBf16(ToBf16(static_cast<float>(value))) : value;
}

}  // namespace

void MatMul(const MatMulParams& p) {
  const int64_t m = p.out.shape[0];
  const int64_t n = p.out.shape[1];
  const int64_t k = p.a.shape[p.transpose_a ? 0 : 1];
  const bool round = p.a.dtype != p.b.dtype;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0.0;
      for (int64_t l = 0; l < k; ++l) {
        sum +=
            Operand(p.a, round, p.transpose_a ? l : i, p.transpose_a ? i : l) *
            Operand(p.b, round, p.transpose_b ? j : l, p.transpose_b ? l : j);
      }
      const double before = p.beta == 0.0f ? 0.0 : Load(p.out, i, j);
      Store(p.out, p.alpha * sum + before, i, j);
    }
  }
}

}  // namespace sinklora::kernels::reference
