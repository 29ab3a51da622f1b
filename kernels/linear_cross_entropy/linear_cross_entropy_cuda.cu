// Chunks of supervised tokens: gather their rows, multiply, turn logits into
// losses and in place into gradients, multiply back.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

using Params = LinearCrossEntropyParams;

struct Labels {
  const int32_t* data;
  int64_t stride;
  SINKLORA_DEVICE int32_t operator[](int64_t t) const {
    return data[t * stride];
  }
};

// tokens[0 .. *count): the supervised ones, in ascending order. One block.
SINKLORA_GLOBAL void CollectKernel(Labels labels, int64_t n, int64_t vocab,
                                   int32_t* tokens, int64_t* count,
                                   DeviceFaults* faults) {
  SINKLORA_SHARED(int[kBlockWarps], found);
  const int warp = threadIdx.x / kWarpThreads;
  const int lane = threadIdx.x % kWarpThreads;
  int64_t total = 0;
  for (int64_t begin = 0; begin < n; begin += kBlockThreads) {
    const int64_t t = begin + threadIdx.x;
    bool supervised = false;
    if (t < n && InRange(labels[t], -1, vocab, faults,
                         ValueCheck::kCrossEntropyLabels, t)) {
      supervised = labels[t] >= 0;
    }
    const uint32_t bits = Ballot(supervised);
    if (lane == 0) found[warp] = CountBits(bits);
    SyncThreads();
    int64_t before = total + CountBits(bits & ((1u << lane) - 1u));
    for (int w = 0; w < kBlockWarps; ++w) {
      if (w < warp) before += found[w];
      total += found[w];
    }
    if (supervised) tokens[before] = static_cast<int32_t>(t);
    SyncThreads();
  }
  if (threadIdx.x == 0) *count = total;
}

// A block row a token: out[i] = x[tokens[i]], or the reverse.
SINKLORA_GLOBAL void GatherRowsKernel(ConstRows x, const int32_t* tokens,
                                      Rows out, int64_t columns) {
  const int64_t i = blockIdx.x;
  for (int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
    out[i][c] = x[tokens[i]][c];
  }
}
SINKLORA_GLOBAL void ScatterRowsKernel(ConstRows x, const int32_t* tokens,
                                       Rows out, int64_t columns) {
  const int64_t i = blockIdx.x;
  for (int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
    out[tokens[i]][c] = x[i][c];
  }
}

SINKLORA_GLOBAL void ClearRowsKernel(Rows x, int64_t columns) {
  for (int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
    x[blockIdx.x][c] = 0.0f;
  }
}

struct RowLoss {
  Labels labels;
  const int32_t* tokens;
  Rows logits;  // [rows, vocab], then their gradient
  int64_t vocab;
  bool gradient;
  float loss_scale;
  double* losses;  // [rows]
  float* nll;      // [tokens], or null
  int64_t nll_stride;
};

// A block a row.
SINKLORA_GLOBAL void LossKernel(RowLoss p) {
  SINKLORA_SHARED(float[kBlockWarps], shared);
  const int64_t i = blockIdx.x;
  const int64_t t = p.tokens[i];
  const int32_t label = p.labels[t];
  float* logits = p.logits[i];
  const double target = logits[label];
  float top = -INFINITY;
  for (int64_t c = threadIdx.x; c < p.vocab; c += kBlockThreads) {
    top = fmaxf(top, logits[c]);
  }
  top = BlockMax(top, shared);
  float sum = 0.0f;
  for (int64_t c = threadIdx.x; c < p.vocab; c += kBlockThreads) {
    const float e = expf(logits[c] - top);
    if (p.gradient) logits[c] = e;
    sum += e;
  }
  sum = BlockSum(sum, shared);
  if (p.gradient) {
    const float factor = p.loss_scale / sum;
    for (int64_t c = threadIdx.x; c < p.vocab; c += kBlockThreads) {
      logits[c] = logits[c] * factor - (c == label ? p.loss_scale : 0.0f);
    }
  }
  if (threadIdx.x == 0) {
    const double loss = top - target + log(static_cast<double>(sum));
    p.losses[i] = loss;
    if (p.nll != nullptr) p.nll[t * p.nll_stride] = static_cast<float>(loss);
  }
}

SINKLORA_GLOBAL void SumLossesKernel(const double* losses, int64_t n,
                                     double* sum) {
  SINKLORA_SHARED(double[kBlockWarps], shared);
  double part = 0.0;
  for (int64_t i = threadIdx.x; i < n; i += kBlockThreads) part += losses[i];
  part = BlockSum(part, shared);
  if (threadIdx.x == 0) *sum = part;
}

LaunchShape BlockARow(int64_t rows) {
  return {.grid = dim3(static_cast<unsigned>(rows)),
          .block = dim3(kBlockThreads)};
}

class ChunkedLoss {
 public:
  ChunkedLoss(const Params& p, CudaContext& context)
      : p_(p),
        context_(context),
        labels_{p.labels.as<int32_t>(), p.labels.stride[0]} {}

  Status Run();

 private:
  Status Collect();
  Status ClearIgnored();
  Status Reserve(int64_t rows);
  Status RunChunk(int64_t begin, int64_t rows);
  Status Logits(const TensorView& hidden, const TensorView& logits);
  Status Gradients(const int32_t* tokens, const TensorView& hidden,
                   const TensorView& logits);
  bool wants_gradient() const {
    return !p_.dhidden.empty() || !p_.dweight.empty();
  }
  int64_t dim() const { return p_.hidden.shape[1]; }

  const Params& p_;
  CudaContext& context_;
  const Labels labels_;
  int64_t count_ = 0;          // supervised tokens
  int32_t* tokens_ = nullptr;  // [count]
  double* losses_ = nullptr;   // [count], then their sum
  float* hidden_ = nullptr;    // [rows, dim] of a chunk
  float* logits_ = nullptr;    // [rows, vocab]
  float* dhidden_ = nullptr;   // [rows, dim]
};

Status ChunkedLoss::Collect() {
  const int64_t n = p_.labels.shape[0];
  int64_t* count = nullptr;
  Status status = context_.Scratch(n, &tokens_);
  if (status.ok()) status = context_.Scratch(1, &count);
  if (status.ok()) {
    status = Launch("cross_entropy_collect", CollectKernel,
                    {.grid = dim3(1), .block = dim3(kBlockThreads)},
                    context_.stream(), labels_, n, p_.vocab(), tokens_, count,
                    context_.faults());
  }
  if (!status.ok()) return status;
  // Also tells of a bad label before anything is written.
  return context_.CopyToHost(count, &count_, sizeof(count_));
}

Status ChunkedLoss::ClearIgnored() {
  const int64_t n = p_.labels.shape[0];
  Status status = OkStatus();
  if (!p_.nll.empty()) {
    status = Launch("cross_entropy_clear", ClearRowsKernel, BlockARow(n),
                    context_.stream(),
                    Rows{p_.nll.as<float>(), p_.nll.stride[0]}, int64_t{1});
  }
  if (status.ok() && !p_.dhidden.empty()) {
    status = Launch("cross_entropy_clear", ClearRowsKernel, BlockARow(n),
                    context_.stream(), RowsOf(p_.dhidden), dim());
  }
  return status;
}

Status ChunkedLoss::Reserve(int64_t rows) {
  Status status = context_.Scratch(count_ + 1, &losses_);
  if (status.ok()) status = context_.Scratch(rows * p_.vocab(), &logits_);
  if (status.ok()) status = context_.Scratch(rows * dim(), &hidden_);
  if (status.ok() && !p_.dhidden.empty()) {
    status = context_.Scratch(rows * dim(), &dhidden_);
  }
  return status;
}

Status ChunkedLoss::Logits(const TensorView& hidden, const TensorView& logits) {
  if (p_.quantized_weight.empty()) {
    return MatMulCuda(
        {.a = hidden, .b = p_.weight, .out = logits, .transpose_b = true},
        context_);
  }
  return QuantizedMatMulCuda({.a = hidden,
                              .b = p_.quantized_weight,
                              .out = logits,
                              .products = p_.products},
                             context_);
}

Status ChunkedLoss::Gradients(const int32_t* tokens, const TensorView& hidden,
                              const TensorView& logits) {
  if (!p_.dweight.empty()) {
    Status status = MatMulCuda({.a = logits,
                                .b = hidden,
                                .out = p_.dweight,
                                .transpose_a = true,
                                .beta = 1.0f},
                               context_);
    if (!status.ok()) return status;
  }
  if (p_.dhidden.empty()) return OkStatus();
  const int64_t rows = logits.shape[0];
  const TensorView dhidden(dhidden_, DType::kF32, {rows, dim()});
  Status status =
      MatMulCuda({.a = logits, .b = p_.weight, .out = dhidden}, context_);
  if (!status.ok()) return status;
  return Launch("cross_entropy_scatter", ScatterRowsKernel, BlockARow(rows),
                context_.stream(), ConstRows{dhidden_, dim()}, tokens,
                RowsOf(p_.dhidden), dim());
}

Status ChunkedLoss::RunChunk(int64_t begin, int64_t rows) {
  const int32_t* tokens = tokens_ + begin;
  const TensorView hidden(hidden_, DType::kF32, {rows, dim()});
  const TensorView logits(logits_, DType::kF32, {rows, p_.vocab()});
  Status status = Launch("cross_entropy_gather", GatherRowsKernel,
                         BlockARow(rows), context_.stream(), RowsOf(p_.hidden),
                         tokens, RowsOf(hidden), dim());
  if (status.ok()) status = Logits(hidden, logits);
  if (status.ok()) {
    const RowLoss loss{
        labels_,          tokens,        RowsOf(logits),  p_.vocab(),
        wants_gradient(), p_.loss_scale, losses_ + begin, p_.nll.as<float>(),
        p_.nll.stride[0]};
    status = Launch("cross_entropy_loss", LossKernel, BlockARow(rows),
                    context_.stream(), loss);
  }
  if (!status.ok() || !wants_gradient()) return status;
  return Gradients(tokens, hidden, logits);
}

Status ChunkedLoss::Run() {
  if (Status status = Collect(); !status.ok()) return status;
  if (Status status = ClearIgnored(); !status.ok()) return status;
  *p_.nll_sum = 0.0;
  *p_.supervised_tokens = count_;
  if (count_ == 0) return OkStatus();
  const int64_t row_bytes = p_.vocab() * static_cast<int64_t>(sizeof(float));
  const int64_t rows = std::min(count_, p_.max_logits_bytes / row_bytes);
  Status status = Reserve(rows);
  for (int64_t i = 0; status.ok() && i < count_; i += rows) {
    status = RunChunk(i, std::min(rows, count_ - i));
  }
  if (status.ok()) {
    status = Launch("cross_entropy_sum", SumLossesKernel,
                    {.grid = dim3(1), .block = dim3(kBlockThreads)},
                    context_.stream(), losses_, count_, losses_ + count_);
  }
  if (!status.ok()) return status;
  return context_.CopyToHost(losses_ + count_, p_.nll_sum, sizeof(double));
}

}  // namespace

Status LinearCrossEntropyCuda(const LinearCrossEntropyParams& p,
                              CudaContext& context) {
  return ChunkedLoss(p, context).Run();
}

}  // namespace sinklora::kernels::cuda
