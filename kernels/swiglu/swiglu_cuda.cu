// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

SINKLORA_DEVICE float Sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

SINKLORA_GLOBAL void SwiGluKernel(ConstRows gate, ConstRows up, Rows out,
                                  int64_t hidden) {
  const int64_t t = blockIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.x;
  for (int64_t i = blockIdx.y * blockDim.x + threadIdx.x; i < hidden;
       i += step) {
    out[t][i] = gate[t][i] * Sigmoid(gate[t][i]) * up[t][i];
  }
}

SINKLORA_GLOBAL void SwiGluGradKernel(ConstRows dout, ConstRows gate,
                                      ConstRows up, Rows dgate, Rows dup,
                                      int64_t hidden) {
  const int64_t t = blockIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.x;
  for (int64_t i = blockIdx.y * blockDim.x + threadIdx.x; i < hidden;
       i += step) {
    const float d = dout[t][i];
    const float g = gate[t][i];
    const float u = up[t][i];
    const float s = Sigmoid(g);
    dgate[t][i] = d * u * s * (1.0f + g * (1.0f - s));
    dup[t][i] = d * g * s;
  }
}

LaunchShape ShapeOf(const ConstTensorView& x) {
  return {.grid = dim3(static_cast<unsigned>(x.shape[0]),
                       static_cast<unsigned>(
                           CeilDiv(x.shape[1], int64_t{4} * kBlockThreads))),
          .block = dim3(kBlockThreads)};
}

}  // namespace

Status SwiGluForwardCuda(const SwiGluForwardParams& p, CudaContext& context) {
  return Launch("swiglu_forward", SwiGluKernel, ShapeOf(p.gate),
                context.stream(), RowsOf(p.gate), RowsOf(p.up), RowsOf(p.out),
                p.gate.shape[1]);
}

Status SwiGluBackwardCuda(const SwiGluBackwardParams& p, CudaContext& context) {
  return Launch("swiglu_backward", SwiGluGradKernel, ShapeOf(p.gate),
                context.stream(), RowsOf(p.dout), RowsOf(p.gate), RowsOf(p.up),
                RowsOf(p.dgate), RowsOf(p.dup), p.gate.shape[1]);
}

}  // namespace sinklora::kernels::cuda
