// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear_cross_entropy/linear_cross_entropy_validate.h"

#include <cmath>
#include <string>

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const LinearCrossEntropyParams& p) {
  const Extent tokens{p.hidden.shape[0], "rows of hidden"};
  const Extent dim{p.hidden.shape[1], "columns of hidden"};
  const int64_t vocab = p.weight.shape[0];
  const int64_t row_bytes = vocab * static_cast<int64_t>(sizeof(float));
  return Validator("linear_cross_entropy")
      .Tensor("hidden", p.hidden, kF32, {kAny, kAny})
      .Tensor("weight", p.weight, kFloat, {kAny, dim})
      .Tensor("labels", p.labels, kI32, {tokens})
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
