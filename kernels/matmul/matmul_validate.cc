// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/matmul_validate.h"

#include <cmath>

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const MatMulParams& p) {
  const int64_t m = p.a.shape[p.transpose_a ? 1 : 0];
  const int64_t k = p.a.shape[p.transpose_a ? 0 : 1];
  const int64_t n = p.b.shape[p.transpose_b ? 0 : 1];
  const Extent inner{k, "inner dimension of a"};
  Validator check("matmul");
  check.Tensor("a", p.a, kFloat, {kAny, kAny});
  if (p.transpose_b) {
    check.Tensor("b", p.b, kFloat, {kAny, inner});
  } else {
    check.Tensor("b", p.b, kFloat, {inner, kAny});
  }
  return check
      .Tensor("out", p.out, kFloat,
              {{m, "rows of op(a)"}, {n, "columns of op(b)"}})
      .NoOverlap("out", p.out, "a", p.a)
      .NoOverlap("out", p.out, "b", p.b)
      .Value(std::isfinite(p.alpha), "alpha", p.alpha, "finite")
      .Value(p.beta == 0.0f || p.beta == 1.0f, "beta", p.beta, "0 or 1")
      .status();
}

}  // namespace sinklora::kernels
