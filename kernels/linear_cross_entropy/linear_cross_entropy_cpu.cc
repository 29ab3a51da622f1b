// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <vector>

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

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(MaxOfRow);
HWY_EXPORT(ExpRow);
HWY_EXPORT(ScaleLogits);

namespace {

using Params = LinearCrossEntropyParams;

// Buffers of one chunk, rows of supervised tokens only.
struct Chunk {
  TensorView hidden;   // [rows, dim], gathered
  TensorView logits;   // [rows, vocab], then the gradient of it
  TensorView dhidden;  // [rows, dim], when asked for
};

std::vector<int64_t> SupervisedTokens(const Params& p) {
  std::vector<int64_t> tokens;
  const int32_t* labels = p.labels.as<int32_t>();
  for (int64_t t = 0; t < p.labels.shape[0]; ++t) {
    if (labels[t] >= 0) tokens.push_back(t);
  }
  return tokens;
}

Chunk MakeChunk(const Params& p, int64_t rows, Scratch& scratch) {
  const int64_t dim = p.hidden.shape[1];
  const int64_t vocab = p.vocab();
  const bool wants_dhidden = !p.dhidden.empty();
  float* memory =
      scratch.Reserve<float>(rows * (vocab + dim * (wants_dhidden ? 2 : 1)));
  Chunk chunk;
  chunk.logits = TensorView(memory, DType::kF32, {rows, vocab});
  memory += rows * vocab;
  chunk.hidden = TensorView(memory, DType::kF32, {rows, dim});
  if (wants_dhidden) {
    memory += rows * dim;
    chunk.dhidden = TensorView(memory, DType::kF32, {rows, dim});
  }
  return chunk;
}

// Row of logits to nll, and in place to its gradient. Returns nll.
double CrossEntropyRow(const Params& p, float* logits, int32_t label) {
  const int64_t vocab = p.vocab();
  const double target = logits[label];
  const float top = HWY_DYNAMIC_DISPATCH(MaxOfRow)(logits, vocab);
  const float sum = HWY_DYNAMIC_DISPATCH(ExpRow)(logits, top, vocab);
  if (!p.dhidden.empty() || !p.dweight.empty()) {
    HWY_DYNAMIC_DISPATCH(ScaleLogits)(logits, p.loss_scale / sum, vocab);
    logits[label] -= p.loss_scale;
  }
  return double{top} - target + std::log(double{sum});
}

class ChunkedLoss {
 public:
  ChunkedLoss(const Params& p, CpuContext& context)
      : p_(p), context_(context), tokens_(SupervisedTokens(p)) {}

  void Run();

 private:
  void RunChunk(const int64_t* tokens, int64_t rows);
  void Gradients(const int64_t* tokens, const Chunk& chunk);
  void ClearIgnored();

  const Params& p_;
  CpuContext& context_;
  const std::vector<int64_t> tokens_;
  Chunk chunk_;
  std::vector<double> nll_;
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
    MatMul({.a = chunk.logits,
            .b = chunk.hidden,
            .out = p_.dweight,
            .transpose_a = true,
            .beta = 1.0f},
           context_);
  }
  if (p_.dhidden.empty()) return;
  MatMul({.a = chunk.logits, .b = p_.weight, .out = chunk.dhidden}, context_);
  const int64_t dim = p_.dhidden.shape[1];
  for (int64_t i = 0; i < chunk.dhidden.shape[0]; ++i) {
    std::memcpy(At(p_.dhidden, tokens[i]), At(chunk.dhidden, i),
                dim * sizeof(float));
  }
}

void ChunkedLoss::RunChunk(const int64_t* tokens, int64_t rows) {
  Chunk chunk = chunk_;
  chunk.hidden.shape[0] = rows;
  chunk.logits.shape[0] = rows;
  chunk.dhidden.shape[0] = rows;
  const int64_t dim = p_.hidden.shape[1];
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(At(chunk.hidden, i), At(p_.hidden, tokens[i]),
                dim * sizeof(float));
  }
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
                     nll_[i] = CrossEntropyRow(p_, At(chunk.logits, i),
                                               labels[tokens[i]]);
                   }
                 });
  for (int64_t i = 0; i < rows; ++i) {
    *p_.nll_sum += nll_[i];
    if (!p_.nll.empty()) {
      p_.nll.as<float>()[tokens[i]] = static_cast<float>(nll_[i]);
    }
  }
  Gradients(tokens, chunk);
}

void ChunkedLoss::Run() {
  ClearIgnored();
  const int64_t count = static_cast<int64_t>(tokens_.size());
  *p_.nll_sum = 0.0;
  *p_.supervised_tokens = count;
  if (count == 0) return;
  const int64_t row_bytes = p_.vocab() * static_cast<int64_t>(sizeof(float));
  const int64_t rows = std::min(count, p_.max_logits_bytes / row_bytes);
  chunk_ = MakeChunk(p_, rows, context_.shared_scratch);
  nll_.resize(rows);
  for (int64_t i = 0; i < count; i += rows) {
    RunChunk(tokens_.data() + i, std::min(rows, count - i));
  }
}

}  // namespace

void LinearCrossEntropy(const LinearCrossEntropyParams& p,
                        CpuContext& context) {
  ChunkedLoss(p, context).Run();
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
