// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "kernels/quantized_matmul/quantized_matrix.h"
#include "tests/gpu/checker.h"
#include "tests/kernels/tolerances.h"

namespace sinklora::gpu_check {
namespace {

using kernels::Backend;
using kernels::DType;
using kernels::kF32Rounding;
using kernels::kPointwise;
using kernels::QuantizedFormat;
using kernels::Status;
using kernels::SumTolerance;
using kernels::TensorView;
using testing::Tolerance;
using Outputs = std::vector<HostData>;

constexpr DType kF32 = DType::kF32;
constexpr DType kBF16 = DType::kBF16;
constexpr Tolerance kExact{};

std::string Text(std::initializer_list<int64_t> shape) {
  std::string out;
  for (int64_t s : shape) {
    if (!out.empty()) out += 'x';
    out += std::to_string(s);
  }
  return out;
}

void CheckMatMul(Checker* checker, int64_t m, int64_t n, int64_t k) {
  for (int bits = 0; bits < 32; ++bits) {
    const DType a_type = bits & 1 ? kBF16 : kF32;
    const DType b_type = bits & 2 ? kBF16 : kF32;
    const DType out_type = bits & 4 ? kBF16 : kF32;
    const bool ta = bits & 8, tb = bits & 16;
    HostData a =
        HostData::Random(a_type, ta ? std::vector{k, m} : std::vector{m, k}, 1);
    HostData b =
        HostData::Random(b_type, tb ? std::vector{n, k} : std::vector{k, n}, 2);
    const bool add = (bits & 3) == 3;
    const auto run = [&](Backend& backend, Outputs* out) {
      out->assign(1, HostData::Random(out_type, {m, n}, 3));
      return backend.MatMul({.a = a.view(),
                             .b = b.view(),
                             .out = (*out)[0].view(),
                             .transpose_a = ta,
                             .transpose_b = tb,
                             .alpha = add ? 0.37f : 1.0f,
                             .beta = add ? 1.0f : 0.0f});
    };
    checker->Check("matmul", Text({m, n, k}) + " case " + std::to_string(bits),
                   run, {SumTolerance(k, out_type)});
  }
}

// Batching must never change a result.
void CheckRowBits(Checker* checker, int64_t n, int64_t k, DType b_type) {
  constexpr int64_t kAll = 4096;
  HostData a = HostData::Random(kF32, {kAll, k}, 4);
  HostData b = HostData::Random(b_type, {n, k}, 5);
  const auto rows = [&](int64_t m) {
    HostData out(kF32, {m, n});
    const Status status = checker->gpu().MatMul({.a = a.view().Rows(0, m),
                                                 .b = b.view(),
                                                 .out = out.view(),
                                                 .transpose_b = true});
    return std::pair{status, std::move(out)};
  };
  const auto all = rows(kAll);
  for (int64_t m : {1, 2, 3, 8, 17, 64, 129, 1000, 2048}) {
    const auto part = rows(m);
    std::string wrong;
    if (!all.first.ok() || !part.first.ok()) {
      wrong = all.first.message() + part.first.message();
    } else if (std::memcmp(all.second.bytes().data(),
                           part.second.bytes().data(),
                           part.second.bytes().size()) != 0) {
      wrong = "rows differ from those of 4096";
    }
    checker->Property(
        b_type == kBF16 ? "matmul_row_bits_bf16" : "matmul_row_bits_f32",
        Text({m, n, k}), wrong);
  }
}

HostData Pack(Backend& backend, HostData* weight, QuantizedFormat format,
              int64_t rows, int64_t cols, Status* status) {
  HostData out(DType::kI8, {kernels::QuantizedBytes(format, rows, cols) + 64});
  const auto past = reinterpret_cast<uintptr_t>(out.view().data) % 64;
  *status = backend.Quantize(
      {.weight = weight->view(),
       .format = format,
       .out = static_cast<char*>(out.view().data) + (64 - past) % 64});
  return out;
}

void CheckQuantized(Checker* checker, QuantizedFormat format, int64_t m,
                    int64_t n, int64_t k, DType products) {
  HostData weight = HostData::Random(kF32, {n, k}, 6, 0.05);
  HostData a = HostData::Random(kF32, {m, k}, 7);
  std::vector<int32_t> rows;
  for (int32_t i = 0; i < 5; ++i) rows.push_back((i * 37) % n);
  HostData ids = HostData::Ints({5}, rows);
  // Packed by the GPU, for both.
  Status packed_status;
  HostData packed = Pack(checker->gpu(), &weight, format, n, k, &packed_status);
  const auto past = reinterpret_cast<uintptr_t>(packed.view().data) % 64;
  const kernels::QuantizedMatrix matrix{
      static_cast<char*>(packed.view().data) + (64 - past) % 64, format, n, k};
  const auto run = [&](Backend& backend, Outputs* out) {
    if (!packed_status.ok()) return packed_status;
    out->assign(1, HostData(kF32, {m, n}));
    out->push_back(HostData(kF32, {5, k}));
    Status status = backend.QuantizedMatMul({.a = a.view(),
                                             .b = matrix,
                                             .out = (*out)[0].view(),
                                             .products = products});
    if (!status.ok()) return status;
    return backend.DequantizeRows(
        {.matrix = matrix, .ids = ids.view(), .out = (*out)[1].view()});
  };
  const std::string op =
      format == QuantizedFormat::kInt8 ? "quantized_int8" : "quantized_int4";
  checker->Check(op + (products == kBF16 ? "_bf16" : "_f32"), Text({m, n, k}),
                 run, {SumTolerance(k + 4), kExact});
}

void CheckNorm(Checker* checker, int64_t tokens, int64_t dim) {
  HostData x = HostData::Random(kF32, {tokens, dim}, 8);
  HostData dout = HostData::Random(kF32, {tokens, dim}, 9);
  HostData weight = HostData::Random(tokens % 2 ? kBF16 : kF32, {dim}, 10);
  const auto run = [&](Backend& backend, Outputs* out) {
    out->assign(1, HostData(kF32, {tokens, dim}));
    out->push_back(HostData(kF32, {tokens}));
    out->push_back(HostData::Random(kF32, {tokens, dim}, 11));
    out->push_back(HostData::Random(kF32, {dim}, 12));
    Status status = backend.RmsNormForward({.x = x.view(),
                                            .weight = weight.view(),
                                            .out = (*out)[0].view(),
                                            .inv_rms = (*out)[1].view()});
    if (!status.ok()) return status;
    return backend.RmsNormBackward({.dout = dout.view(),
                                    .x = x.view(),
                                    .weight = weight.view(),
                                    .inv_rms = (*out)[1].view(),
                                    .dx = (*out)[2].view(),
                                    .accumulate_dx = true,
                                    .dweight = (*out)[3].view()});
  };
  const Tolerance sum = SumTolerance(2 * dim + 16);
  checker->Check("rms_norm", Text({tokens, dim}), run,
                 {sum, sum, sum, SumTolerance(tokens + dim + 4)});
}

void CheckPointwise(Checker* checker, int64_t tokens, int64_t dim) {
  HostData gate = HostData::Random(kF32, {tokens, dim}, 13, 3.0);
  HostData up = HostData::Random(kF32, {tokens, dim}, 14);
  HostData dout = HostData::Random(kF32, {tokens, dim}, 15);
  HostData row = HostData::Random(kF32, {dim}, 16);
  const std::string shape = Text({tokens, dim});
  checker->Check(
      "swiglu", shape,
      [&](Backend& backend, Outputs* out) {
        out->assign(3, HostData(kF32, {tokens, dim}));
        Status status = backend.SwiGluForward(
            {.gate = gate.view(), .up = up.view(), .out = (*out)[0].view()});
        if (!status.ok()) return status;
        return backend.SwiGluBackward({.dout = dout.view(),
                                       .gate = gate.view(),
                                       .up = up.view(),
                                       .dgate = (*out)[1].view(),
                                       .dup = (*out)[2].view()});
      },
      {kPointwise, kPointwise, kPointwise});
  checker->Check("bias", shape,
                 [&](Backend& backend, Outputs* out) {
                   out->assign(1, up);
                   out->push_back(row);
                   Status status = backend.BiasForward(
                       {.bias = row.view(), .out = (*out)[0].view()});
                   if (!status.ok()) return status;
                   return backend.BiasBackward(
                       {.dout = dout.view(), .dbias = (*out)[1].view()});
                 },
                 {SumTolerance(2), SumTolerance(tokens + 1)});
  checker->Check(
      "elementwise", shape,
      [&](Backend& backend, Outputs* out) {
        double squares = 0;
        out->assign(1, up);
        out->push_back(HostData(kBF16, {tokens, dim}));
        out->push_back(HostData(kF32, {1}));
        TensorView x = (*out)[0].view();
        Status status =
            backend.Add({.x = gate.view(), .out = x, .alpha = 0.3f});
        if (status.ok()) status = backend.Scale({.x = x, .factor = 1.7f});
        if (status.ok()) {
          status = backend.ScaleColumns({.x = x, .factors = row.view()});
        }
        if (status.ok()) {
          status = backend.Cast({.x = up.view(), .out = (*out)[1].view()});
        }
        if (status.ok()) {
          status = backend.SumSquares({.x = up.view(), .result = &squares});
        }
        (*out)[2].view().as<float>()[0] = static_cast<float>(squares);
        return status;
      },
      {SumTolerance(4), kExact, SumTolerance(4)});
  HostData m = HostData::Random(kF32, {tokens, dim}, 17, 0.1);
  HostData v = HostData::Random(kF32, {tokens, dim}, 18, 0.1);
  for (int64_t i = 0; i < v.size(); ++i) {
    float& value = v.view().as<float>()[i];
    value *= value;
  }
  checker->Check("adamw", shape,
                 [&](Backend& backend, Outputs* out) {
                   *out = {up, m, v};
                   return backend.AdamW({.param = (*out)[0].view(),
                                         .grad = dout.view(),
                                         .m = (*out)[1].view(),
                                         .v = (*out)[2].view(),
                                         .step = 7,
                                         .learning_rate = 1e-3f,
                                         .weight_decay = 0.01f,
                                         .grad_scale = 0.5f});
                 },
                 {kPointwise, kPointwise, kPointwise});
}

// Ops that look at the listed rows alone, which are every third.
void CheckRows(Checker* checker, int64_t rows, int64_t columns) {
  std::vector<int32_t> listed;
  HostData grad = HostData::Random(kF32, {rows, columns}, 24);
  for (int32_t row = 0; row < rows; ++row) {
    if (row % 3 == 0) {
      listed.push_back(row);
    } else {
      std::memset(grad.view().as<float>() + row * columns, 0,
                  static_cast<size_t>(columns) * sizeof(float));
    }
  }
  HostData list = HostData::Ints({static_cast<int64_t>(listed.size())}, listed);
  HostData zeros = grad;
  std::memset(zeros.view().data, 0, zeros.bytes().size());
  checker->Check(
      "rows", Text({rows, columns}),
      [&](Backend& backend, Outputs* out) {
        *out = {HostData::Random(kF32, {rows, columns}, 25), zeros, zeros, grad,
                HostData(kF32, {1})};
        double squares = 0;
        Status status = backend.SumSquares(
            {.x = grad.view(), .result = &squares, .rows = list.view()});
        (*out)[4].view().as<float>()[0] = static_cast<float>(squares);
        if (status.ok()) {
          status = backend.AdamW({.param = (*out)[0].view(),
                                  .grad = grad.view(),
                                  .m = (*out)[1].view(),
                                  .v = (*out)[2].view(),
                                  .step = 1,
                                  .learning_rate = 1e-3f,
                                  .grad_scale = 0.5f,
                                  .rows = list.view()});
        }
        if (!status.ok()) return status;
        return backend.ZeroRows({.x = (*out)[3].view(), .rows = list.view()});
      },
      {kPointwise, kPointwise, kPointwise, kExact, SumTolerance(4)});
}

void CheckTokens(Checker* checker, int64_t tokens, int64_t dim) {
  const int64_t vocab = 97;
  std::vector<int32_t> ids, labels, positions;
  for (int64_t t = 0; t < tokens; ++t) {
    ids.push_back(static_cast<int32_t>(t * t * 31 % vocab));
    labels.push_back(t % 3 == 0 ? -1 : static_cast<int32_t>(t * 7 % vocab));
    positions.push_back(static_cast<int32_t>(t % 50));
  }
  HostData id = HostData::Ints({tokens}, ids);
  HostData label = HostData::Ints({tokens}, labels);
  HostData position = HostData::Ints({tokens}, positions);
  HostData table = HostData::Random(kBF16, {vocab, dim}, 19);
  HostData x = HostData::Random(kF32, {tokens, dim}, 20);
  HostData cos = HostData::Random(kF32, {50, dim / 4}, 21);
  HostData sin = HostData::Random(kF32, {50, dim / 4}, 22);
  const std::string shape = Text({tokens, dim});
  checker->Check(
      "embedding", shape,
      [&](Backend& backend, Outputs* out) {
        out->assign(1, HostData(kF32, {tokens, dim}));
        out->push_back(HostData::Random(kF32, {vocab, dim}, 23));
        Status status = backend.EmbeddingForward(
            {.ids = id.view(), .table = table.view(), .out = (*out)[0].view()});
        if (!status.ok()) return status;
        return backend.EmbeddingBackward(
            {.ids = id.view(), .dout = x.view(), .dtable = (*out)[1].view()});
      },
      {kExact, SumTolerance(tokens)});
  checker->Check(
      "rope", shape,
      [&](Backend& backend, Outputs* out) {
        out->assign(1, x);
        return backend.Rope(
            {.x = TensorView((*out)[0].view().data, kF32, {tokens, 2, dim / 2}),
             .positions = position.view(),
             .cos = cos.view(),
             .sin = sin.view()});
      },
      {SumTolerance(4)});
  checker->Check(
      "linear_cross_entropy", shape,
      [&](Backend& backend, Outputs* out) {
        double sum = 0;
        int64_t count = 0;
        out->assign(1, HostData(kF32, {tokens}));
        out->push_back(HostData(kF32, {tokens, dim}));
        out->push_back(HostData::Random(kF32, {vocab, dim}, 24));
        HostData weight = HostData::Random(kF32, {vocab, dim}, 25, 0.1);
        const Status status =
            backend.LinearCrossEntropy({.hidden = x.view(),
                                        .weight = weight.view(),
                                        .labels = label.view(),
                                        .loss_scale = 0.01f,
                                        .max_logits_bytes = 5 * vocab * 4,
                                        .nll = (*out)[0].view(),
                                        .dhidden = (*out)[1].view(),
                                        .dweight = (*out)[2].view(),
                                        .nll_sum = &sum,
                                        .supervised_tokens = &count});
        out->push_back(HostData::Ints({1}, {static_cast<int32_t>(count)}));
        return status;
      },
      {SumTolerance(dim + vocab), SumTolerance(dim + vocab),
       SumTolerance(dim + tokens), kExact});
}

// Rows of one settings each, over ties, forbidden tokens and a bad logit.
void CheckSampling(Checker* checker, int64_t vocab) {
  HostData logits = HostData::Random(kF32, {6, vocab}, 41, 3.0);
  auto* row = logits.view().as<float>();
  for (int64_t i = 0; i < vocab; ++i) {
    row[vocab + i] = std::round(row[vocab + i]);
    row[2 * vocab + i] = 1.25f;
    if (i % 2 == 0) row[3 * vocab + i] = -INFINITY;
  }
  row[5 * vocab - 1] = NAN;
  checker->Check(
      "sample_tokens", Text({6, vocab}),
      [&](Backend& backend, Outputs* out) {
        std::vector<kernels::SampleRow> rows;
        for (int64_t i = 0; i < 600; ++i) {
          rows.push_back(
              {.logits =
                   kernels::ConstTensorView(row + i % 6 * vocab, kF32, {vocab}),
               .temperature = static_cast<double>(i % 5) * 0.5,
               .top_k = i % 7 == 0 ? 1 + i : 0,
               .top_p = i % 4 == 0 ? 1.0 : 0.2 * static_cast<double>(i % 4),
               .draw = static_cast<double>(i * 37 % 600) / 600});
        }
        std::vector<int32_t> ids(rows.size(), -7);
        const Status status =
            backend.SampleTokens({.rows = rows, .ids = ids.data()});
        out->assign(1, HostData::Ints({600}, ids));
        return status;
      },
      {kExact});
}

}  // namespace

void CheckAllOps(Checker* checker, bool quick) {
  CheckMatMul(checker, 37, 29, 53);
  CheckMatMul(checker, 64, 96, 128);
  CheckNorm(checker, 5, 288);
  CheckPointwise(checker, 5, 300);
  CheckTokens(checker, 70, 64);
  CheckRows(checker, 40, 300);
  for (const auto format : {QuantizedFormat::kInt8, QuantizedFormat::kInt4}) {
    CheckQuantized(checker, format, 1, 130, 95, kF32);
    CheckQuantized(checker, format, 6, 65, 64, kBF16);
  }
  CheckSampling(checker, 1300);
  CheckAttentionOps(checker, quick);
  if (quick) return;
  for (int64_t vocab : {1, 32000, 128256}) CheckSampling(checker, vocab);
  for (int64_t m : {1, 2, 17, 65, 130}) {
    CheckMatMul(checker, m, 257, 100);
    CheckMatMul(checker, m, 256, 512);
  }
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1024, 1024},
                             {4096, 512},
                             {320, 2048},
                             {33, 100}}) {
    CheckRowBits(checker, n, k, kBF16);
    CheckRowBits(checker, n, k, kF32);
  }
  for (int64_t tokens : {1, 64, 301}) {
    for (int64_t dim : {1, 255, 1024, 4100}) {
      CheckNorm(checker, tokens, dim);
      CheckPointwise(checker, tokens, dim);
    }
    for (int64_t dim : {16, 64, 512, 1028}) CheckTokens(checker, tokens, dim);
    for (int64_t dim : {7, 4096, 16500}) CheckRows(checker, tokens, dim);
  }
  for (const auto format : {QuantizedFormat::kInt8, QuantizedFormat::kInt4}) {
    for (int64_t m : {1, 2, 5, 40}) {
      CheckQuantized(checker, format, m, 1000, 1056, kF32);
      CheckQuantized(checker, format, m, 1000, 1056, kBF16);
    }
  }
}

}  // namespace sinklora::gpu_check
