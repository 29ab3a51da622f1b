// A block a row; each element is read twice, the second time from the cache.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

SINKLORA_GLOBAL void NormKernel(ConstRows x, FloatElements weight, float eps,
                                Rows out, float* inv_rms, int64_t dim) {
  SINKLORA_SHARED(float[kBlockWarps], shared);
  const int64_t t = blockIdx.x;
  float squares = 0.0f;
  for (int64_t i = threadIdx.x; i < dim; i += kBlockThreads) {
    squares = fmaf(x[t][i], x[t][i], squares);
  }
  squares = BlockSum(squares, shared);
  const float factor = 1.0f / sqrtf(squares / static_cast<float>(dim) + eps);
  for (int64_t i = threadIdx.x; i < dim; i += kBlockThreads) {
    out[t][i] = x[t][i] * factor * weight[i];
  }
  if (inv_rms != nullptr && threadIdx.x == 0) inv_rms[t] = factor;
}

struct NormGrad {
  ConstRows dout, x;
  FloatElements weight;
  const float* inv_rms;
  Rows dx;
  bool accumulate;
  int64_t dim;
};

// With r = inv_rms and y = x * r: dx = r * (w * dout - y * mean(w * dout * y)).
SINKLORA_GLOBAL void NormGradKernel(NormGrad g) {
  SINKLORA_SHARED(float[kBlockWarps], shared);
  const int64_t t = blockIdx.x;
  const float r = g.inv_rms[t];
  float dot = 0.0f;
  for (int64_t i = threadIdx.x; i < g.dim; i += kBlockThreads) {
    dot = fmaf(g.weight[i] * g.dout[t][i], g.x[t][i] * r, dot);
  }
  const float mean = BlockSum(dot, shared) / static_cast<float>(g.dim);
  for (int64_t i = threadIdx.x; i < g.dim; i += kBlockThreads) {
    const float gradient =
        r * fmaf(-(g.x[t][i] * r), mean, g.weight[i] * g.dout[t][i]);
    g.dx[t][i] = g.accumulate ? g.dx[t][i] + gradient : gradient;
  }
}

struct WeightTerm {
  ConstRows dout, x;
  const float* inv_rms;
  SINKLORA_DEVICE float operator()(int64_t row, int64_t column) const {
    return dout[row][column] * (x[row][column] * inv_rms[row]);
  }
};

}  // namespace

Status RmsNormForwardCuda(const RmsNormForwardParams& p, CudaContext& context) {
  return Launch("rms_norm_forward", NormKernel,
                {.grid = dim3(static_cast<unsigned>(p.x.shape[0])),
                 .block = dim3(kBlockThreads)},
                context.stream(), RowsOf(p.x), ElementsOf(p.weight), p.eps,
                RowsOf(p.out), p.inv_rms.as<float>(), p.x.shape[1]);
}

Status RmsNormBackwardCuda(const RmsNormBackwardParams& p,
                           CudaContext& context) {
  const float* inv_rms = p.inv_rms.as<float>();
  const NormGrad grad{RowsOf(p.dout), RowsOf(p.x),  ElementsOf(p.weight),
                      inv_rms,        RowsOf(p.dx), p.accumulate_dx,
                      p.x.shape[1]};
  Status status = Launch("rms_norm_backward", NormGradKernel,
                         {.grid = dim3(static_cast<unsigned>(p.x.shape[0])),
                          .block = dim3(kBlockThreads)},
                         context.stream(), grad);
  if (!status.ok() || p.dweight.empty()) return status;
  return AddColumnSums(
      "rms_norm_backward", WeightTerm{RowsOf(p.dout), RowsOf(p.x), inv_rms},
      p.x.shape[0], p.x.shape[1], p.dweight.as<float>(), context);
}

}  // namespace sinklora::kernels::cuda
