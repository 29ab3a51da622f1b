// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/decode_layers.h"

#include <cmath>
#include <vector>

#include "kernels/cuda/cuda_ops.h"

namespace sinklora::gpu_check {

using kernels::DType;
using kernels::Status;
using kernels::TensorView;
using kernels::cuda::CudaContext;

namespace {

// [1, n * head_dim] as [n, head_dim].
TensorView HeadsOf(const TensorView& x, int64_t head_dim) {
  return TensorView(x.data, x.dtype, {x.shape[1] / head_dim, head_dim});
}

}  // namespace

DecodeLayers::DecodeLayers(CudaContext* context, const LayerShape& shape)
    : context_(context), shape_(shape), memory_(context) {}

Status DecodeLayers::Init() {
  const LayerShape& s = shape_;
  const int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  struct Part {
    TensorView* tensor;
    DType dtype;
    int64_t rows, columns;
  };
  const Part parts[] = {{&wq_, DType::kBF16, q, s.hidden},
                        {&wk_, DType::kBF16, kv, s.hidden},
                        {&wv_, DType::kBF16, kv, s.hidden},
                        {&wo_, DType::kBF16, s.hidden, q},
                        {&gate_, DType::kBF16, s.ffn, s.hidden},
                        {&up_, DType::kBF16, s.ffn, s.hidden},
                        {&down_, DType::kBF16, s.hidden, s.ffn},
                        {&cos_, DType::kF32, s.used, s.head_dim / 2},
                        {&sin_, DType::kF32, s.used, s.head_dim / 2},
                        {&x_, DType::kF32, 1, s.hidden},
                        {&middle_, DType::kF32, 1, s.hidden},
                        {&normed_, DType::kF32, 1, s.hidden},
                        {&q_, DType::kF32, 1, q},
                        {&k_, DType::kF32, 1, kv},
                        {&v_, DType::kF32, 1, kv},
                        {&attended_, DType::kF32, 1, q},
                        {&a_, DType::kF32, 1, s.ffn},
                        {&b_, DType::kF32, 1, s.ffn}};
  Status status = memory_.Tensor(DType::kF32, {s.hidden}, &norm_);
  for (const Part& part : parts) {
    if (!status.ok()) return status;
    status = memory_.Tensor(part.dtype, {part.rows, part.columns}, part.tensor);
  }
  kernels::CacheView cache;
  for (TensorView* x : {&cache.k, &cache.v}) {
    if (status.ok()) {
      status =
          memory_.Tensor(DType::kBF16, {s.kv_heads, s.used, s.head_dim}, x);
    }
  }
  const auto last = static_cast<int32_t>(s.used - 1);
  std::vector<int32_t> all;
  for (int64_t h = 0; h < s.kv_heads; ++h) {
    for (int32_t j = 0; j <= last; ++j) all.push_back(j);
  }
  if (status.ok()) {
    status = memory_.Ints(all, {s.kv_heads, s.used}, &cache.positions);
  }
  if (status.ok()) status = memory_.Ints({last}, {1}, &position_);
  if (status.ok()) {
    status = memory_.Ints(std::vector<int32_t>(s.kv_heads, last), {s.kv_heads},
                          &slots_);
  }
  cache.used = s.used;
  token_ = {.q = HeadsOf(q_, s.head_dim),
            .k = HeadsOf(k_, s.head_dim),
            .v = HeadsOf(v_, s.head_dim),
            .slots = slots_,
            .position = last,
            .cache = cache,
            .out = HeadsOf(attended_, s.head_dim)};
  decode_ = {.tokens = {&token_, 1},
             .scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim))};
  return status;
}

double DecodeLayers::bytes() const {
  int64_t elements = 0;
  for (const TensorView* x : {&wq_, &wk_, &wv_, &wo_, &gate_, &up_, &down_,
                              &token_.cache.k, &token_.cache.v}) {
    elements += x->num_elements();
  }
  return static_cast<double>(elements * shape_.layers *
                             kernels::SizeOf(DType::kBF16));
}

template <typename Params>
Status DecodeLayers::Ask(Status (*op)(const Params&, CudaContext&),
                         const Params& p) {
  context_->BeginOp();
  return op(p, *context_);
}

Status DecodeLayers::Linear(const TensorView& x, const TensorView& w,
                            const TensorView& out) {
  return Ask(kernels::cuda::MatMulCuda,
             {.a = x, .b = w, .out = out, .transpose_b = true});
}

Status DecodeLayers::Rotate(const TensorView& x) {
  return Ask(
      kernels::cuda::RopeCuda,
      {.x = TensorView(x.data, x.dtype,
                       {1, x.shape[1] / shape_.head_dim, shape_.head_dim}),
       .positions = position_,
       .cos = cos_,
       .sin = sin_});
}

Status DecodeLayers::Norm(const TensorView& x) {
  return Ask(kernels::cuda::RmsNormForwardCuda,
             {.x = x, .weight = norm_, .out = normed_});
}

Status DecodeLayers::Add(const TensorView& x, const TensorView& out) {
  return Ask(kernels::cuda::AddCuda, {.x = x, .out = out});
}

Status DecodeLayers::RunLayer() {
  Status status = Norm(x_);
  if (status.ok()) status = Linear(normed_, wq_, q_);
  if (status.ok()) status = Linear(normed_, wk_, k_);
  if (status.ok()) status = Linear(normed_, wv_, v_);
  if (status.ok()) status = Rotate(q_);
  if (status.ok()) status = Rotate(k_);
  if (status.ok()) status = Ask(kernels::cuda::CacheDecodeCuda, decode_);
  if (status.ok()) status = Linear(attended_, wo_, middle_);
  if (status.ok()) status = Add(x_, middle_);
  if (status.ok()) status = Norm(middle_);
  if (status.ok()) status = Linear(normed_, gate_, a_);
  if (status.ok()) status = Linear(normed_, up_, b_);
  if (status.ok()) {
    status = Ask(kernels::cuda::SwiGluForwardCuda,
                 {.gate = a_, .up = b_, .out = a_});
  }
  if (status.ok()) status = Linear(a_, down_, x_);
  return status.ok() ? Add(middle_, x_) : status;
}

Status DecodeLayers::Run() {
  Status status;
  for (int64_t i = 0; i < shape_.layers && status.ok(); ++i) {
    status = RunLayer();
  }
  return status;
}

Status DecodeLayers::RunRepeated() {
  const uint64_t key[] = {reinterpret_cast<uintptr_t>(x_.data),
                          static_cast<uint64_t>(shape_.hidden),
                          static_cast<uint64_t>(shape_.layers)};
  const std::vector<kernels::CacheDecodeParams> decodes(
      static_cast<size_t>(shape_.layers), decode_);
  Status run;
  Status status = kernels::cuda::RepeatCuda({.key = key,
                                             .decodes = decodes,
                                             .run =
                                                 [&] {
                                                   run = Run();
                                                   return run.ok();
                                                 }},
                                            *context_);
  return run.ok() ? status : run;
}

}  // namespace sinklora::gpu_check
