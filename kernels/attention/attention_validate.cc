// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention_validate.h"

#include <cmath>
#include <string>
#include <utility>

#include "kernels/validator.h"

namespace sinklora::kernels {

namespace {

void CheckSegments(const AttentionPattern& pattern, int64_t tokens,
                   Validator* check) {
  int64_t previous_end = 0;
  for (size_t i = 0; i < pattern.segments.size(); ++i) {
    const AttentionSegment& s = pattern.segments[i];
    const std::string name = "pattern.segments[" + std::to_string(i) + "]";
    check
        ->Value(s.begin >= previous_end, name + ".begin", s.begin,
                ">= " + std::to_string(previous_end) +
                    " (end of the segment before)")
        .Value(
            s.length >= 0 && s.begin <= tokens && s.length <= tokens - s.begin,
            name + ".length", s.length,
            "in [0, " + std::to_string(tokens - s.begin) + "]")
        .Value(s.group_size >= 1, name + ".group_size", s.group_size, ">= 1")
        .Value(s.lead == 0 ||
                   (s.lead >= pattern.sink_tokens && s.lead <= s.length),
               name + ".lead", s.lead,
               "0 or in [" + std::to_string(pattern.sink_tokens) + ", " +
                   std::to_string(s.length) + "]");
    if (!check->ok()) return;
    previous_end = s.begin + s.length;
  }
}

void CheckPattern(const AttentionPattern* pattern, int64_t tokens,
                  int64_t heads, Validator* check) {
  check->NotNull("pattern", pattern);
  if (!check->ok()) return;
  check
      ->Value(pattern->shifted_heads >= 0 && pattern->shifted_heads <= heads,
              "pattern.shifted_heads", pattern->shifted_heads,
              "in [0, " + std::to_string(heads) + "]")
      .Value(pattern->sink_tokens >= 0, "pattern.sink_tokens",
             pattern->sink_tokens, ">= 0")
      .Value(pattern->window >= 0, "pattern.window", pattern->window, ">= 0");
  CheckSegments(*pattern, tokens, check);
}

void CheckInputs(const ConstTensorView& q, const ConstTensorView& k,
                 const ConstTensorView& v, float scale, DType product_dtype,
                 Validator* check) {
  const Extent tokens{q.shape[0], "tokens of q"};
  const Extent dim{q.shape[2], "head_dim of q"};
  check->Tensor("q", q, kF32, {kAny, kAny, kAny})
      .Value(dim.size % 8 == 0 && dim.size >= 8 && dim.size <= 256,
             "q.shape[2]", dim.size, "a multiple of 8 in [8, 256]")
      .Tensor("k", k, kF32, {tokens, kAny, dim})
      .Tensor("v", v, kF32, {tokens, {k.shape[1], "kv heads of k"}, dim})
      .Value(k.shape[1] >= 1 && q.shape[1] % k.shape[1] == 0, "k.shape[1]",
             k.shape[1],
             "a divisor of " + std::to_string(q.shape[1]) + " (heads of q)")
      .Value(std::isfinite(scale), "scale", scale, "finite")
      .Value(product_dtype == DType::kF32 || product_dtype == DType::kBF16,
             "product_dtype", static_cast<int64_t>(product_dtype),
             "f32 or bf16");
}

}  // namespace

Status Validate(const AttentionForwardParams& p) {
  const Extent tokens{p.q.shape[0], "tokens of q"};
  const Extent heads{p.q.shape[1], "heads of q"};
  const Extent dim{p.q.shape[2], "head_dim of q"};
  Validator check("attention_forward");
  CheckInputs(p.q, p.k, p.v, p.scale, p.product_dtype, &check);
  check.Tensor("out", p.out, kF32, {tokens, heads, dim})
      .OptionalTensor("lse", p.lse, kF32, {heads, tokens})
      .NoOverlap("out", p.out, "k", p.k)
      .NoOverlap("out", p.out, "v", p.v);
  CheckPattern(p.pattern, tokens.size, heads.size, &check);
  return check.status();
}

Status Validate(const AttentionBackwardParams& p) {
  const Extent tokens{p.q.shape[0], "tokens of q"};
  const Extent heads{p.q.shape[1], "heads of q"};
  const Extent dim{p.q.shape[2], "head_dim of q"};
  const Extent kv_heads{p.k.shape[1], "kv heads of k"};
  Validator check("attention_backward");
  CheckInputs(p.q, p.k, p.v, p.scale, p.product_dtype, &check);
  check.Tensor("dout", p.dout, kF32, {tokens, heads, dim})
      .Tensor("out", p.out, kF32, {tokens, heads, dim})
      .Tensor("lse", p.lse, kF32, {heads, tokens})
      .Tensor("dq", p.dq, kF32, {tokens, heads, dim})
      .Tensor("dk", p.dk, kF32, {tokens, kv_heads, dim})
      .Tensor("dv", p.dv, kF32, {tokens, kv_heads, dim});
  for (const auto& [field, gradient] :
       {std::pair{"dq", p.dq}, {"dk", p.dk}, {"dv", p.dv}}) {
    check.NoOverlap(field, gradient, "dout", p.dout)
        .NoOverlap(field, gradient, "q", p.q)
        .NoOverlap(field, gradient, "k", p.k)
        .NoOverlap(field, gradient, "v", p.v)
        .NoOverlap(field, gradient, "out", p.out);
  }
  CheckPattern(p.pattern, tokens.size, heads.size, &check);
  return check.status();
}

}  // namespace sinklora::kernels
