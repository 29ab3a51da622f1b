// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear_cross_entropy/linear_cross_entropy_validate.h"

#include <cmath>
#include <string>

#include "kernels/quantized_matmul/quantized_matmul_validate.h"
#include "kernels/validator.h"

namespace sinklora::kernels {

namespace {

void CheckQuantized(const LinearCrossEntropyParams& p, Validator* check) {
  const auto given = [](const ConstTensorView& x) {
    return int64_t{x.empty() ? 0 : 1};
  };
  CheckQuantizedMatrix("quantized_weight", p.quantized_weight, check);
  check
      ->Value(p.quantized_weight.cols == p.hidden.shape[1],
              "quantized_weight.cols", p.quantized_weight.cols,
              std::to_string(p.hidden.shape[1]) + " (columns of hidden)")
      .Value(p.weight.empty(), "tensors in weight", given(p.weight),
             "0 with a quantized_weight")
      .Value(p.dhidden.empty(), "tensors in dhidden", given(p.dhidden),
             "0 with a quantized_weight")
      .Value(p.dweight.empty(), "tensors in dweight", given(p.dweight),
             "0 with a quantized_weight")
      .Value(p.products == DType::kF32 || p.products == DType::kBF16,
             "products", static_cast<int64_t>(p.products), "f32 or bf16");
}

}  // namespace

Status Validate(const LinearCrossEntropyParams& p, Values values) {
  const Extent tokens{p.hidden.shape[0], "rows of hidden"};
  const Extent dim{p.hidden.shape[1], "columns of hidden"};
  const int64_t vocab = p.vocab();
  const int64_t row_bytes = vocab * static_cast<int64_t>(sizeof(float));
  Validator check("linear_cross_entropy", values);
  check.Tensor("hidden", p.hidden, kF32, {kAny, kAny});
  if (p.quantized_weight.empty()) {
    check.Tensor("weight", p.weight, kFloat, {kAny, dim});
  } else {
    CheckQuantized(p, &check);
  }
  return check.Tensor("labels", p.labels, kI32, {tokens})
      .OptionalTensor("nll", p.nll, kF32, {tokens})
      .OptionalTensor("dhidden", p.dhidden, kF32, {tokens, dim})
      .OptionalTensor("dweight", p.dweight, kF32,
                      {{vocab, "rows of weight"}, dim})
      .NotNull("nll_sum", p.nll_sum)
      .NotNull("supervised_tokens", p.supervised_tokens)
      .Value(std::isfinite(p.loss_scale), "loss_scale", p.loss_scale, "finite")
      .Value(p.max_logits_bytes >= row_bytes, "max_logits_bytes",
             p.max_logits_bytes,
             "at least one row of logits, " + std::to_string(row_bytes))
      .Range("labels", p.labels, -1, vocab)
      .NoOverlap("dhidden", p.dhidden, "hidden", p.hidden)
      .NoOverlap("dweight", p.dweight, "weight", p.weight)
      .status();
}

}  // namespace sinklora::kernels
