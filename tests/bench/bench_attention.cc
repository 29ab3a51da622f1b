// Training attention at Llama's head size and smaller ones, forward and
// backward, for the patterns of the papers. FLOPs are those of the live pairs.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "tests/bench/op_bench.h"

namespace sinklora::bench {
namespace {

using kernels::AttentionPattern;
using kernels::Backend;
using kernels::DType;

constexpr int64_t kHeads = 32;

struct Shape {
  std::string pattern;
  int64_t tokens;
  int64_t kv_heads;
  DType dtype;  // of the products
  int64_t head_dim = 128;
};

AttentionPattern PatternOf(const Shape& s) {
  AttentionPattern out;
  const int64_t group = s.pattern == "full" ? s.tokens : s.tokens / 4;
  out.segments = {{0, s.tokens, group}};
  if (s.pattern == "s2") out.shifted_heads = kHeads / 2;
  if (s.pattern == "sf") {  // return ratio 1/2, 4 sinks
    out.shifted_heads = kHeads / 4;
    out.sink_tokens = 4;
  }
  return out;
}

// Operands and results of both directions.
struct Operands {
  Operands(Backend* backend, const Shape& s)
      : pattern(PatternOf(s)),
        q(Tensor::Random(backend, DType::kF32, {s.tokens, kHeads, s.head_dim})),
        k(Tensor::Random(backend, DType::kF32,
                         {s.tokens, s.kv_heads, s.head_dim})),
        v(Tensor::Random(backend, DType::kF32,
                         {s.tokens, s.kv_heads, s.head_dim})),
        out(Tensor::Zeros(backend, DType::kF32,
                          {s.tokens, kHeads, s.head_dim})),
        lse(Tensor::Zeros(backend, DType::kF32, {kHeads, s.tokens})),
        product_dtype(s.dtype) {}

  kernels::Status Forward(Backend* backend) const {
    return backend->AttentionForward({.q = q.view(),
                                      .k = k.view(),
                                      .v = v.view(),
                                      .pattern = &pattern,
                                      .scale = Scale(),
                                      .out = out.view(),
                                      .lse = lse.view(),
                                      .product_dtype = product_dtype});
  }
  float Scale() const {
    return 1.0f / std::sqrt(static_cast<float>(q.view().shape[2]));
  }

  AttentionPattern pattern;
  Tensor q, k, v, out, lse;
  DType product_dtype;
  // Of the backward pass.
  Tensor dout, dq, dk, dv;
};

Work WorkOf(const Shape& s, double flops_a_pair) {
  return {flops_a_pair * static_cast<double>(s.head_dim) *
              static_cast<double>(LivePairs(PatternOf(s), kHeads)),
          s.dtype == DType::kBF16 ? Limit::kBf16 : Limit::kF32};
}

PreparedOp Forward(Backend* backend, const Shape& s) {
  auto x = std::make_shared<Operands>(backend, s);
  return {WorkOf(s, 4), [x, backend] { return x->Forward(backend); }};
}

PreparedOp Backward(Backend* backend, const Shape& s) {
  auto x = std::make_shared<Operands>(backend, s);
  x->dout =
      Tensor::Random(backend, DType::kF32, {s.tokens, kHeads, s.head_dim});
  x->dq = Tensor::Zeros(backend, DType::kF32, {s.tokens, kHeads, s.head_dim});
  x->dk =
      Tensor::Zeros(backend, DType::kF32, {s.tokens, s.kv_heads, s.head_dim});
  x->dv =
      Tensor::Zeros(backend, DType::kF32, {s.tokens, s.kv_heads, s.head_dim});
  // On another backend: its scratch memory is not the backward pass's.
  std::unique_ptr<Backend> other;
  kernels::Status forward = kernels::OpenBackend("cpu", {}, &other);
  if (forward.ok()) forward = x->Forward(other.get());
  return {
      WorkOf(s, 10), [x, backend, forward]() -> kernels::Status {
        if (!forward.ok()) return forward;
        return backend->AttentionBackward({.dout = x->dout.view(),
                                           .q = x->q.view(),
                                           .k = x->k.view(),
                                           .v = x->v.view(),
                                           .out = x->out.view(),
                                           .lse = x->lse.view(),
                                           .pattern = &x->pattern,
                                           .scale = x->Scale(),
                                           .dq = x->dq.view(),
                                           .dk = x->dk.view(),
                                           .dv = x->dv.view(),
                                           .product_dtype = x->product_dtype});
      }};
}

}  // namespace

void RegisterAttention(const Suite& suite) {
  const auto add = [&](const Shape& s) {
    const std::string suffix =
        fmt::format("{}/N{}/kv{}/d{}/{}", s.pattern, s.tokens, s.kv_heads,
                    s.head_dim, s.dtype == DType::kBF16 ? "bf16" : "f32");
    Register(suite, "attention_forward/" + suffix,
             [s](Backend* backend) { return Forward(backend, s); });
    Register(suite, "attention_backward/" + suffix,
             [s](Backend* backend) { return Backward(backend, s); });
  };
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t tokens : {2048, 4096, 8192}) {
      for (const char* pattern : {"full", "s2", "sf"}) {
        add({pattern, tokens, kHeads, dtype});
      }
    }
    add({"sf", 4096, 8, dtype});  // grouped queries
    for (const int64_t head_dim : {24, 40, 72, 80}) {
      add({"full", 2048, kHeads, dtype, head_dim});
    }
  }
}

}  // namespace sinklora::bench
