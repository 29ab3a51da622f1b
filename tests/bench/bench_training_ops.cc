// The ops around the matrix products, at 8192 tokens of a 1 B Llama (hidden
// 2048, intermediate 5632, 32000 pieces), and the optimizer at 32 M parameters:
// everything larger than the caches.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <memory>

#include "tests/bench/op_bench.h"

namespace sinklora::bench {
namespace {

using kernels::Backend;
using kernels::DType;
using kernels::TensorView;

constexpr int64_t kTokens = 8192;
constexpr int64_t kDim = 2048;
constexpr int64_t kHeadDim = 128;
constexpr int64_t kIntermediate = 5632;
constexpr int64_t kVocab = 32000;
constexpr int64_t kParameters = int64_t{32} << 20;

using Tensors = std::vector<Tensor>;

Tensor F32(Backend* backend, std::initializer_list<int64_t> shape) {
  return Tensor::Random(backend, DType::kF32, shape);
}

Tensor Ids(Backend* backend) {
  return Tensor::Ints(backend, {kTokens}, [](int64_t i) {
    return static_cast<int32_t>(i * 7919 % kVocab);
  });
}

double Bytes(const Tensors& tensors) {
  double sum = 0;
  for (const Tensor& t : tensors) sum += t.bytes();
  return sum;
}

// The op streams each of `tensors` once, plus `again` bytes that are read and
// written.
template <typename Run>
PreparedOp Streaming(Tensors tensors, double again, Limit limit, Run run) {
  const double bytes = Bytes(tensors) + again;
  auto x = std::make_shared<Tensors>(std::move(tensors));
  return {{bytes, limit}, [x, run] { return run(*x); }};
}

template <typename... Shapes>
Tensors Many(Backend* backend, const Shapes&... shapes) {
  Tensors out;
  (out.push_back(F32(backend, shapes)), ...);
  return out;
}

using Shape = std::initializer_list<int64_t>;
constexpr Shape kRows = {kTokens, kDim};
constexpr Shape kWideRows = {kTokens, kIntermediate};

PreparedOp RmsNormForward(Backend* b) {
  return Streaming(Many(b, kRows, kRows, Shape{kDim}, Shape{kTokens}), 0,
                   Limit::kStream, [b](const Tensors& x) {
                     return b->RmsNormForward({.x = x[0].view(),
                                               .weight = x[2].view(),
                                               .out = x[1].view(),
                                               .inv_rms = x[3].view()});
                   });
}

PreparedOp RmsNormBackward(Backend* b, bool with_weight) {
  Tensors x =
      Many(b, kRows, kRows, kRows, Shape{kDim}, Shape{kTokens}, Shape{kDim});
  const double dx = x[2].bytes();
  return Streaming(std::move(x), dx, Limit::kUpdate,
                   [b, with_weight](const Tensors& t) {
                     return b->RmsNormBackward(
                         {.dout = t[0].view(),
                          .x = t[1].view(),
                          .weight = t[3].view(),
                          .inv_rms = t[4].view(),
                          .dx = t[2].view(),
                          .accumulate_dx = true,
                          .dweight = with_weight ? t[5].view() : TensorView()});
                   });
}

// True rotations, call after call: others would soon leave denormals.
PreparedOp Rope(Backend* b) {
  const Shape angles = {kTokens, kHeadDim / 2};
  const auto angle = [](int64_t i) {
    return static_cast<float>(i % 6283) / 1e3f;
  };
  Tensors x = Many(b, Shape{kTokens, kDim / kHeadDim, kHeadDim});
  x.push_back(
      Tensor::Floats(b, angles, [&](int64_t i) { return std::cos(angle(i)); }));
  x.push_back(
      Tensor::Floats(b, angles, [&](int64_t i) { return std::sin(angle(i)); }));
  x.push_back(Tensor::Ints(b, {kTokens},
                           [](int64_t i) { return static_cast<int32_t>(i); }));
  const double rotated = x[0].bytes();
  return Streaming(std::move(x), rotated, Limit::kUpdate,
                   [b](const Tensors& t) {
                     return b->Rope({.x = t[0].view(),
                                     .positions = t[3].view(),
                                     .cos = t[1].view(),
                                     .sin = t[2].view()});
                   });
}

PreparedOp SwiGluForward(Backend* b) {
  return Streaming(
      Many(b, kWideRows, kWideRows, kWideRows), 0, Limit::kStream,
      [b](const Tensors& x) {
        return b->SwiGluForward(
            {.gate = x[0].view(), .up = x[1].view(), .out = x[2].view()});
      });
}

PreparedOp SwiGluBackward(Backend* b) {
  return Streaming(
      Many(b, kWideRows, kWideRows, kWideRows, kWideRows, kWideRows), 0,
      Limit::kStream, [b](const Tensors& x) {
        return b->SwiGluBackward({.dout = x[0].view(),
                                  .gate = x[1].view(),
                                  .up = x[2].view(),
                                  .dgate = x[3].view(),
                                  .dup = x[4].view()});
      });
}

// Rows of the table that the tokens name, and the output.
PreparedOp EmbeddingForward(Backend* b, DType dtype) {
  auto x = std::make_shared<Tensors>();
  x->push_back(Ids(b));
  x->push_back(Tensor::Random(b, dtype, {kVocab, kDim}));
  x->push_back(F32(b, kRows));
  const double rows = static_cast<double>(kTokens * kDim) *
                      static_cast<double>(kernels::SizeOf(dtype));
  return {{rows + (*x)[2].bytes(), Limit::kStream}, [x, b] {
            return b->EmbeddingForward({.ids = (*x)[0].view(),
                                        .table = (*x)[1].view(),
                                        .out = (*x)[2].view()});
          }};
}

PreparedOp EmbeddingBackward(Backend* b) {
  auto x = std::make_shared<Tensors>();
  x->push_back(Ids(b));
  x->push_back(F32(b, kRows));
  x->push_back(Tensor::Zeros(b, DType::kF32, {kVocab, kDim}));
  return {{3 * (*x)[1].bytes(), Limit::kUpdate}, [x, b] {
            return b->EmbeddingBackward({.ids = (*x)[0].view(),
                                         .dout = (*x)[1].view(),
                                         .dtable = (*x)[2].view()});
          }};
}

// Three products when gradients of hidden and weight are asked for.
PreparedOp LinearCrossEntropy(Backend* b, DType dtype, bool dhidden,
                              bool dweight) {
  constexpr int64_t kSupervised = 1024;
  struct Operands {
    Tensor hidden, weight, labels, nll, dhidden, dweight;
    double sum = 0;
    int64_t supervised = 0;
  };
  auto x = std::make_shared<Operands>();
  x->hidden = F32(b, {kSupervised, kDim});
  x->weight = Tensor::Random(b, dtype, {kVocab, kDim});
  x->labels = Tensor::Ints(b, {kSupervised}, [](int64_t i) {
    return static_cast<int32_t>(i * 7919 % kVocab);
  });
  if (dhidden) x->dhidden = F32(b, {kSupervised, kDim});
  if (dweight) x->dweight = Tensor::Zeros(b, DType::kF32, {kVocab, kDim});
  const double products = 1.0 + (dhidden ? 1 : 0) + (dweight ? 1 : 0);
  return {{2.0 * products * kSupervised * kDim * kVocab,
           dtype == DType::kBF16 ? Limit::kBf16 : Limit::kF32},
          [x, b] {
            return b->LinearCrossEntropy({.hidden = x->hidden.view(),
                                          .weight = x->weight.view(),
                                          .labels = x->labels.view(),
                                          .loss_scale = 1.0f / kSupervised,
                                          .dhidden = x->dhidden.view(),
                                          .dweight = x->dweight.view(),
                                          .nll_sum = &x->sum,
                                          .supervised_tokens = &x->supervised});
          }};
}

PreparedOp AdamW(Backend* b) {
  Tensors x = Many(b, Shape{kParameters}, Shape{kParameters});
  x.push_back(Tensor::Zeros(b, DType::kF32, {kParameters}));
  x.push_back(Tensor::Zeros(b, DType::kF32, {kParameters}));
  const double written = 3 * x[0].bytes();
  return Streaming(std::move(x), written, Limit::kUpdate,
                   [b](const Tensors& t) {
                     return b->AdamW({.param = t[0].view(),
                                      .grad = t[1].view(),
                                      .m = t[2].view(),
                                      .v = t[3].view(),
                                      .step = 10,
                                      .learning_rate = 1e-4f,
                                      .weight_decay = 0.1f,
                                      .grad_scale = 0.5f});
                   });
}

PreparedOp SumSquares(Backend* b) {
  auto result = std::make_shared<double>();
  return Streaming(
      Many(b, Shape{2 * kParameters}), 0, Limit::kRead,
      [b, result](const Tensors& x) {
        return b->SumSquares({.x = x[0].view(), .result = result.get()});
      });
}

PreparedOp Scale(Backend* b) {
  Tensors x = Many(b, Shape{kParameters});
  const double written = x[0].bytes();
  return Streaming(std::move(x), written, Limit::kUpdate,
                   [b](const Tensors& t) {
                     return b->Scale({.x = t[0].view(), .factor = -1.0f});
                   });
}

PreparedOp ScaleColumns(Backend* b) {
  Tensors x = Many(b, kRows);
  x.push_back(Tensor::Ints(
      b, {kDim}, [](int64_t) { return std::bit_cast<int32_t>(1.0f); }));
  const double written = x[0].bytes();
  return Streaming(
      std::move(x), written, Limit::kUpdate, [b](const Tensors& t) {
        TensorView ones = t[1].view();
        ones.dtype = DType::kF32;
        return b->ScaleColumns({.x = t[0].view(), .factors = ones});
      });
}

PreparedOp Add(Backend* b) {
  Tensors x = Many(b, kRows, kRows);
  const double written = x[1].bytes();
  return Streaming(
      std::move(x), written, Limit::kUpdate, [b](const Tensors& t) {
        return b->Add({.x = t[0].view(), .out = t[1].view(), .alpha = 1e-6f});
      });
}

PreparedOp Cast(Backend* b, DType from, DType to) {
  Tensors x;
  x.push_back(Tensor::Random(b, from, {kParameters}));
  x.push_back(Tensor::Zeros(b, to, {kParameters}));
  return Streaming(std::move(x), 0, Limit::kStream, [b](const Tensors& t) {
    return b->Cast({.x = t[0].view(), .out = t[1].view()});
  });
}

PreparedOp BiasForward(Backend* b) {
  Tensors x = Many(b, kRows, Shape{kDim});
  const double written = x[0].bytes();
  return Streaming(
      std::move(x), written, Limit::kUpdate, [b](const Tensors& t) {
        return b->BiasForward({.bias = t[1].view(), .out = t[0].view()});
      });
}

PreparedOp BiasBackward(Backend* b) {
  return Streaming(
      Many(b, kRows, Shape{kDim}), 0, Limit::kRead, [b](const Tensors& t) {
        return b->BiasBackward({.dout = t[0].view(), .dbias = t[1].view()});
      });
}

}  // namespace

void RegisterTrainingOps(const Suite& suite) {
  constexpr DType f32 = DType::kF32, bf16 = DType::kBF16;
  const auto add = [&](const char* name, PrepareOp prepare) {
    Register(suite, name, std::move(prepare));
  };
  add("rms_norm_forward", RmsNormForward);
  add("rms_norm_backward/frozen",
      [](Backend* b) { return RmsNormBackward(b, false); });
  add("rms_norm_backward/dweight",
      [](Backend* b) { return RmsNormBackward(b, true); });
  add("rope", Rope);
  add("swiglu_forward", SwiGluForward);
  add("swiglu_backward", SwiGluBackward);
  add("embedding_forward/f32",
      [](Backend* b) { return EmbeddingForward(b, f32); });
  add("embedding_forward/bf16",
      [](Backend* b) { return EmbeddingForward(b, bf16); });
  add("embedding_backward", EmbeddingBackward);
  for (const auto& [dtype, name] : {std::pair{f32, "f32"}, {bf16, "bf16"}}) {
    const std::string prefix = std::string("linear_cross_entropy/") + name;
    add((prefix + "/loss").c_str(), [dtype = dtype](Backend* b) {
      return LinearCrossEntropy(b, dtype, false, false);
    });
    add((prefix + "/dhidden").c_str(), [dtype = dtype](Backend* b) {
      return LinearCrossEntropy(b, dtype, true, false);
    });
    add((prefix + "/dhidden_dweight").c_str(), [dtype = dtype](Backend* b) {
      return LinearCrossEntropy(b, dtype, true, true);
    });
  }
  add("adamw", AdamW);
  add("sum_squares", SumSquares);
  add("scale", Scale);
  add("scale_columns", ScaleColumns);
  add("add", Add);
  add("cast/f32_bf16", [](Backend* b) { return Cast(b, f32, bf16); });
  add("cast/bf16_f32", [](Backend* b) { return Cast(b, bf16, f32); });
  add("bias_forward", BiasForward);
  add("bias_backward", BiasBackward);
}

}  // namespace sinklora::bench
