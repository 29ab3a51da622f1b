// Matrix products at the shapes of Llama layers: training and prefill (tall
// operands: FLOP/s), decode (one row to a few: bytes of the weight a second).
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <tuple>

#include "tests/bench/op_bench.h"

namespace sinklora::bench {
namespace {

using kernels::Backend;
using kernels::DType;
using kernels::QuantizedFormat;

struct Shape {
  int64_t m, n, k;
  DType a, b;
  bool transpose_b = true;   // a layer's forward: b is the weight, [n, k]
  bool transpose_a = false;  // a weight's gradient
  float beta = 0;
};

constexpr int64_t kFewRows = 16;  // up to here the weight's bytes decide
constexpr int64_t kLowRank = 16;  // and here those of the activations

struct Operands {
  Tensor a, b, out;
};

Work WorkOf(const Shape& s, const Operands& x) {
  if (s.m <= kFewRows && !s.transpose_a) return {x.b.bytes(), Limit::kRead};
  if (std::min({s.m, s.n, s.k}) <= kLowRank) {
    const double out = s.beta == 0 ? x.out.bytes() : 2 * x.out.bytes();
    return {x.a.bytes() + x.b.bytes() + out,
            s.k <= kLowRank ? Limit::kUpdate : Limit::kRead};
  }
  const bool bf16 = s.a == DType::kBF16 || s.b == DType::kBF16;
  return {2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) *
              static_cast<double>(s.k),
          bf16 ? Limit::kBf16 : Limit::kF32};
}

PreparedOp Prepare(Backend* backend, const Shape& s) {
  auto x = std::make_shared<Operands>();
  x->a = s.transpose_a ? Tensor::Random(backend, s.a, {s.k, s.m})
                       : Tensor::Random(backend, s.a, {s.m, s.k});
  x->b = s.transpose_b ? Tensor::Random(backend, s.b, {s.n, s.k})
                       : Tensor::Random(backend, s.b, {s.k, s.n});
  x->out = Tensor::Zeros(backend, DType::kF32, {s.m, s.n});
  return {WorkOf(s, *x), [x, backend, s] {
            return backend->MatMul({.a = x->a.view(),
                                    .b = x->b.view(),
                                    .out = x->out.view(),
                                    .transpose_a = s.transpose_a,
                                    .transpose_b = s.transpose_b,
                                    .beta = s.beta});
          }};
}

// The weight in 8 or 4 bits: few rows by f32 products, many by bf16 ones.
PreparedOp PrepareQuantized(Backend* backend, int64_t m, int64_t n, int64_t k,
                            QuantizedFormat format) {
  struct Quantized {
    Tensor a, packed, out;
  };
  auto x = std::make_shared<Quantized>();
  const int64_t bytes = kernels::QuantizedBytes(format, n, k);
  x->a = Tensor::Random(backend, DType::kF32, {m, k});
  x->packed = Tensor::Zeros(backend, DType::kI8, {bytes});
  x->out = Tensor::Zeros(backend, DType::kF32, {m, n});
  const kernels::Status packed = backend->Quantize(
      {.weight = Tensor::Random(backend, DType::kF32, {n, k}).view(),
       .format = format,
       .out = x->packed.view().data});
  const bool few = m <= kFewRows;
  const Work work =
      few ? Work{static_cast<double>(bytes), Limit::kRead}
          : Work{2.0 * static_cast<double>(m) * static_cast<double>(n) *
                     static_cast<double>(k),
                 Limit::kBf16};
  return {work, [=] {
            if (!packed.ok()) return packed;
            return backend->QuantizedMatMul(
                {.a = x->a.view(),
                 .b = {x->packed.view().data, format, n, k},
                 .out = x->out.view(),
                 .products = few ? DType::kF32 : DType::kBF16});
          }};
}

const char* NameOf(DType dtype) {
  return dtype == DType::kBF16 ? "bf16" : "f32";
}

}  // namespace

void RegisterMatMul(const Suite& suite) {
  const auto add = [&](const char* what, const Shape& s) {
    Register(suite,
             fmt::format("matmul/{}/m{}/n{}/k{}/{}_{}", what, s.m, s.n, s.k,
                         NameOf(s.a), NameOf(s.b)),
             [s](Backend* backend) { return Prepare(backend, s); });
  };
  constexpr DType f32 = DType::kF32, bf16 = DType::kBF16;
  // Activations are f32; a bf16 weight rounds them. bf16 x bf16 shows what that
  // costs.
  for (const auto& [a, b] :
       {std::pair{f32, f32}, std::pair{f32, bf16}, std::pair{bf16, bf16}}) {
    add("forward", {4096, 2048, 2048, a, b});
    add("forward", {4096, 5632, 2048, a, b});
    add("forward", {4096, 512, 512, a, b});
    add("forward", {512, 4096, 4096, a, b});
    add("input_gradient", {4096, 2048, 5632, a, b, false});
    add("decode", {1, 4096, 4096, a, b});
    add("decode", {1, 5632, 2048, a, b});
    add("decode", {1, 32000, 2048, a, b});
    add("decode", {8, 4096, 4096, a, b});
  }
  for (const QuantizedFormat format :
       {QuantizedFormat::kInt8, QuantizedFormat::kInt4}) {
    for (const auto& [m, n, k] :
         {std::tuple<int64_t, int64_t, int64_t>{1, 128256, 2048},
          {8, 128256, 2048},
          {1, 5632, 2048},
          {512, 5632, 2048}}) {
      Register(suite,
               fmt::format("quantized_matmul/{}/m{}/n{}/k{}/{}",
                           m <= kFewRows ? "decode" : "prefill", m, n, k,
                           format == QuantizedFormat::kInt8 ? "int8" : "int4"),
               [=, m = m, n = n, k = k](Backend* backend) {
                 return PrepareQuantized(backend, m, n, k, format);
               });
    }
  }
  add("weight_gradient", {2048, 2048, 4096, f32, f32, false, true, 1});
  // LoRA's products and their gradients.
  for (const int64_t rank : {8, 16, 64}) {
    add("lora_down", {4096, rank, 2048, f32, f32});
    add("lora_up", {4096, 2048, rank, f32, f32, true, false, 1});
    add("lora_down_gradient", {4096, rank, 2048, f32, f32, false});
    add("lora_input_gradient", {4096, 2048, rank, f32, f32, false, false, 1});
    add("lora_a_gradient", {rank, 2048, 4096, f32, f32, false, true, 1});
    add("lora_b_gradient", {2048, rank, 4096, f32, f32, false, true, 1});
  }
  add("lora_down", {1, 8, 4096, f32, f32});
  add("lora_up", {1, 4096, 8, f32, f32, true, false, 1});
}

}  // namespace sinklora::bench
