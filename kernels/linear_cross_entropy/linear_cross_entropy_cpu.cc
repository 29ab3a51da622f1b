// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE \
  "kernels/linear_cross_entropy/linear_cross_entropy_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

float MaxOfRow(const float* x, int64_t n) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  float top = x[0];
  int64_t i = 0;
  if (n >= lanes) {
    F32Vec tops = hn::LoadU(d, x);
    for (i = lanes; i + lanes <= n; i += lanes) {
      tops = hn::Max(tops, hn::LoadU(d, x + i));
    }
    top = hn::GetLane(hn::MaxOfLanes(d, tops));
  }
  for (; i < n; ++i) top = x[i] > top ? x[i] : top;
  return top;
}

// x = exp(x - shift); returns the sum.
float ExpRow(float* x, float shift, int64_t n) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  const F32Vec offset = hn::Set(d, shift);
  F32Vec sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const F32Vec e = Exp(d, hn::Sub(hn::LoadU(d, x + i), offset));
    hn::StoreU(e, d, x + i);
    sum = hn::Add(sum, e);
  }
  if (i < n) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(n - i));
    const F32Vec e = Exp(d, hn::Sub(hn::MaskedLoad(mask, d, x + i), offset));
    hn::BlendedStore(e, mask, d, x + i);
    sum = hn::Add(sum, hn::IfThenElseZero(mask, e));
  }
  return Sum(d, sum);
}

void ScaleLogits(float* x, float factor, int64_t n) {
  const F32Tag d;
  ForEachVector(n, [&](int64_t i, auto lanes) {
    lanes.Store(hn::Mul(lanes.Load(d, x + i), hn::Set(d, factor)), d, x + i);
  });
}

// Row x times factor as bf16, in the front of its own memory.
void ScaleToBf16(float* x, float factor, int64_t n) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  const F32Vec f = hn::Set(d, factor);
  auto* to = reinterpret_cast<bf16_t*>(x);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    StoreBf16(hn::Mul(hn::LoadU(d, x + i), f), d, to + i);
  }
  for (; i < n; ++i) {
    const bf16_t y = ToBf16(x[i] * factor);
    std::memcpy(to + i, &y, sizeof(y));
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(MaxOfRow);
HWY_EXPORT(ExpRow);
HWY_EXPORT(ScaleLogits);
HWY_EXPORT(ScaleToBf16);

namespace {

using Params = LinearCrossEntropyParams;

// Logits of a chunk that a processor's last cache holds, and rows for which the
// weight is worth reading again.
constexpr int64_t kCachedLogitsBytes = int64_t{8} << 20;
constexpr int64_t kLeastRows = 512;

// Buffers of one chunk, rows of supervised tokens only.
struct Chunk {
  int64_t* tokens;      // all that are supervised
  double* nll;          // [rows]
  TensorView hidden;    // [rows, dim], gathered; as the product rounds it
  TensorView logits;    // [rows, vocab]
  TensorView gradient;  // of the logits, in their memory; dtype of hidden
  TensorView dhidden;   // [rows, dim], when asked for
};

int64_t CountSupervised(const Params& p) {
  const int32_t* labels = p.labels.as<int32_t>();
  return std::count_if(labels, labels + p.labels.shape[0],
                       [](int32_t label) { return label >= 0; });
}

// Of `rows` rows at most, for `count` supervised tokens.
Chunk MakeChunk(const Params& p, int64_t rows, int64_t count,
                Scratch& scratch) {
  const int64_t dim = p.hidden.shape[1];
  const int64_t vocab = p.vocab();
  const bool wants_dhidden = !p.dhidden.empty();
  const int64_t floats = rows * (vocab + dim * (wants_dhidden ? 2 : 1));
  auto* lists = scratch.Reserve<int64_t>(count + rows + (floats + 1) / 2);
  Chunk chunk;
  chunk.tokens = lists;
  chunk.nll = reinterpret_cast<double*>(lists + count);
  auto* memory = reinterpret_cast<float*>(lists + count + rows);
  chunk.logits = TensorView(memory, DType::kF32, {rows, vocab});
  chunk.gradient = chunk.logits;
  memory += rows * vocab;
  chunk.hidden = TensorView(memory, DType::kF32, {rows, dim});
  if (p.quantized_weight.empty() && p.weight.dtype == DType::kBF16) {
    chunk.hidden.dtype = DType::kBF16;
    chunk.gradient.dtype = DType::kBF16;
    chunk.gradient.stride[0] = 2 * vocab;
  }
  if (wants_dhidden) {
    memory += rows * dim;
    chunk.dhidden = TensorView(memory, DType::kF32, {rows, dim});
  }
  return chunk;
}

// Row of logits to nll, and in place to its gradient as `dtype`. Returns nll.
double CrossEntropyRow(const Params& p, float* logits, int32_t label,
                       DType dtype) {
  const int64_t vocab = p.vocab();
  const double target = logits[label];
  const float top = HWY_DYNAMIC_DISPATCH(MaxOfRow)(logits, vocab);
  const float sum = HWY_DYNAMIC_DISPATCH(ExpRow)(logits, top, vocab);
  if (!p.dhidden.empty() || !p.dweight.empty()) {
    const float factor = p.loss_scale / sum;
    const float of_label = logits[label] * factor - p.loss_scale;
    if (dtype == DType::kBF16) {
      HWY_DYNAMIC_DISPATCH(ScaleToBf16)(logits, factor, vocab);
      const bf16_t rounded = ToBf16(of_label);
      std::memcpy(reinterpret_cast<bf16_t*>(logits) + label, &rounded,
                  sizeof(rounded));
    } else {
      HWY_DYNAMIC_DISPATCH(ScaleLogits)(logits, factor, vocab);
      logits[label] = of_label;
    }
  }
  return double{top} - target + std::log(double{sum});
}

class ChunkedLoss {
 public:
  ChunkedLoss(const Params& p, CpuContext& context)
      : p_(p), context_(context) {}

  void Run();

 private:
  void RunChunk(const int64_t* tokens, int64_t rows);
  void Gradients(const int64_t* tokens, const Chunk& chunk);
  void ClearIgnored();

  const Params& p_;
  CpuContext& context_;
  Chunk chunk_{};
};

void ChunkedLoss::ClearIgnored() {
  const int32_t* labels = p_.labels.as<int32_t>();
  for (int64_t t = 0; t < p_.labels.shape[0]; ++t) {
    if (labels[t] >= 0) continue;
    if (!p_.nll.empty()) p_.nll.as<float>()[t] = 0.0f;
    if (!p_.dhidden.empty()) {
      std::memset(At(p_.dhidden, t), 0, p_.dhidden.shape[1] * sizeof(float));
    }
  }
}

void ChunkedLoss::Gradients(const int64_t* tokens, const Chunk& chunk) {
  if (!p_.dweight.empty()) {
    MatMul({.a = chunk.gradient,
            .b = chunk.hidden,
            .out = p_.dweight,
            .transpose_a = true,
            .beta = 1.0f},
           context_);
  }
  if (p_.dhidden.empty()) return;
  MatMul({.a = chunk.gradient, .b = p_.weight, .out = chunk.dhidden}, context_);
  const int64_t dim = p_.dhidden.shape[1];
  ParallelBlocks(context_.pool, chunk.dhidden.shape[0], RowsPerTask(dim),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t i = begin; i < end; ++i) {
                     std::memcpy(At(p_.dhidden, tokens[i]),
                                 At(chunk.dhidden, i), dim * sizeof(float));
                   }
                 });
}

void ChunkedLoss::RunChunk(const int64_t* tokens, int64_t rows) {
  Chunk chunk = chunk_;
  chunk.hidden.shape[0] = rows;
  chunk.logits.shape[0] = rows;
  chunk.gradient.shape[0] = rows;
  chunk.dhidden.shape[0] = rows;
  const int64_t dim = p_.hidden.shape[1];
  ParallelBlocks(context_.pool, rows, RowsPerTask(dim),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t i = begin; i < end; ++i) {
                     CopyElements(At(p_.hidden, tokens[i]), DType::kF32,
                                  chunk.hidden.Rows(i, 1).data,
                                  chunk.hidden.dtype, dim);
                   }
                 });
  if (p_.quantized_weight.empty()) {
    MatMul({.a = chunk.hidden,
            .b = p_.weight,
            .out = chunk.logits,
            .transpose_b = true},
           context_);
  } else {
    QuantizedMatMul({.a = chunk.hidden,
                     .b = p_.quantized_weight,
                     .out = chunk.logits,
                     .products = p_.products},
                    context_);
  }
  const int32_t* labels = p_.labels.as<int32_t>();
  ParallelBlocks(context_.pool, rows, RowsPerTask(p_.vocab()),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t i = begin; i < end; ++i) {
                     chunk.nll[i] = CrossEntropyRow(p_, At(chunk.logits, i),
                                                    labels[tokens[i]],
                                                    chunk.gradient.dtype);
                   }
                 });
  for (int64_t i = 0; i < rows; ++i) {
    *p_.nll_sum += chunk.nll[i];
    if (!p_.nll.empty()) {
      p_.nll.as<float>()[tokens[i]] = static_cast<float>(chunk.nll[i]);
    }
  }
  Gradients(tokens, chunk);
}

void ChunkedLoss::Run() {
  ClearIgnored();
  const int64_t count = CountSupervised(p_);
  *p_.nll_sum = 0.0;
  *p_.supervised_tokens = count;
  if (count == 0) return;
  const int64_t row_bytes = p_.vocab() * static_cast<int64_t>(sizeof(float));
  const int64_t rows =
      std::min({count, p_.max_logits_bytes / row_bytes,
                std::max(kLeastRows, kCachedLogitsBytes / row_bytes)});
  chunk_ = MakeChunk(p_, rows, count, context_.shared_scratch);
  const int32_t* labels = p_.labels.as<int32_t>();
  int64_t* next = chunk_.tokens;
  for (int64_t t = 0; t < p_.labels.shape[0]; ++t) {
    if (labels[t] >= 0) *next++ = t;
  }
  for (int64_t i = 0; i < count; i += rows) {
    RunChunk(chunk_.tokens + i, std::min(rows, count - i));
  }
}

}  // namespace

void LinearCrossEntropy(const LinearCrossEntropyParams& p,
                        CpuContext& context) {
  ChunkedLoss(p, context).Run();
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
