// How far the cpu backend may be from the reference backend, one entry an op.
//
// Rule: error <= 2 x honest low precision + rounding floor. "Honest" is what a
// plain loop in the storage precision with f32 accumulation is expected to lose
// against double: a rounding a term, growing as sqrt(terms), relative to the
// largest result (sums cancel, so small results carry the error of large ones).
// The floor is a few roundings of the result itself. Pure data movement is
// exact and is compared bit by bit instead.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_KERNELS_TOLERANCES_H_
#define SINKLORA_TESTS_KERNELS_TOLERANCES_H_

#include <cmath>
#include <cstdint>

#include "kernels/tensor.h"
#include "tests/testing/tolerance.h"

namespace sinklora::kernels {

inline constexpr double kF32Rounding = 0x1p-24;
inline constexpr double kBF16Rounding = 0x1p-8;

// A sum of `terms` products in f32, stored as `out`.
inline testing::Tolerance SumTolerance(int64_t terms, DType out = DType::kF32) {
  const double honest = kF32Rounding * std::sqrt(static_cast<double>(terms));
  // Rounding the result: the reference rounds too, so both may go either way.
  const double store = out == DType::kBF16 ? kBF16Rounding : kF32Rounding;
  return {.relative = 2.0 * store,
          .of_largest = 2.0 * honest + 2.0 * kF32Rounding,
          .absolute = 1e-37};
}

// exp, sigmoid and the like are good to 2 ulp; a handful of them and a few
// products follow each other.
inline constexpr testing::Tolerance kPointwise{
    .relative = 2.0 * 8.0 * kF32Rounding,
    .of_largest = 2.0 * kF32Rounding,
    .absolute = 1e-37};

// Scores are sums over head_dim and enter an exponential: their absolute error
// becomes the relative error of a probability. `largest_score` bounds |score|.
// With bf16 products the operands are rounded: those of a score as much as
// those of the sum that follows.
inline testing::Tolerance AttentionTolerance(int64_t head_dim,
                                             double largest_score,
                                             DType product = DType::kF32) {
  double score = kF32Rounding *
                 (std::sqrt(static_cast<double>(head_dim)) + 4.0) *
                 (largest_score + 1.0);
  double sum = 8.0 * kF32Rounding;
  if (product == DType::kBF16) {
    score += kBF16Rounding / 4.0 * (largest_score + 1.0);
    sum += kBF16Rounding;
  }
  return {.of_largest = 2.0 * score + sum, .absolute = 1e-37};
}

// Gradients multiply that by sums over queries or keys of both signs.
inline testing::Tolerance AttentionGradientTolerance(
    int64_t head_dim, int64_t tokens, double largest_score,
    DType product = DType::kF32) {
  testing::Tolerance t = AttentionTolerance(head_dim, largest_score, product);
  t.of_largest +=
      2.0 * kF32Rounding * std::sqrt(static_cast<double>(head_dim + tokens));
  return t;
}

}  // namespace sinklora::kernels

#endif  // SINKLORA_TESTS_KERNELS_TOLERANCES_H_
