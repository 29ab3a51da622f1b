// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

SINKLORA_GLOBAL void AddBiasKernel(const float* bias, Rows out,
                                   int64_t columns) {
  const int64_t column =
      static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (column < columns) out[blockIdx.x][column] += bias[column];
}

struct DoutTerm {
  ConstRows dout;
  SINKLORA_DEVICE float operator()(int64_t row, int64_t column) const {
    return dout[row][column];
  }
};

}  // namespace

Status BiasForwardCuda(const BiasForwardParams& p, CudaContext& context) {
  const int64_t columns = p.out.shape[1];
  return Launch(
      "bias_forward", AddBiasKernel,
      {.grid = dim3(static_cast<unsigned>(p.out.shape[0]),
                    static_cast<unsigned>(CeilDiv(columns, kBlockThreads))),
       .block = dim3(kBlockThreads)},
      context.stream(), p.bias.as<float>(), RowsOf(p.out), columns);
}

Status BiasBackwardCuda(const BiasBackwardParams& p, CudaContext& context) {
  return AddColumnSums("bias_backward", DoutTerm{RowsOf(p.dout)},
                       p.dout.shape[0], p.dout.shape[1], p.dbias.as<float>(),
                       context);
}

}  // namespace sinklora::kernels::cuda
