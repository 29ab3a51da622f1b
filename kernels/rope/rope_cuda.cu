// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"

namespace sinklora::kernels::cuda {
namespace {

struct Rotation {
  float* x;
  int64_t token, head;  // strides
  int heads, half;
  const int32_t* positions;
  int64_t position;  // stride
  ConstRows cos, sin;
  int64_t table_rows;
  float sign;
};

// A block a token.
SINKLORA_GLOBAL void RopeKernel(Rotation r, DeviceFaults* faults) {
  const int64_t t = blockIdx.x;
  const int32_t row = r.positions[t * r.position];
  if (!InRange(row, 0, r.table_rows, faults, ValueCheck::kRopePositions, t)) {
    return;
  }
  for (int at = threadIdx.x; at < r.heads * r.half; at += blockDim.x) {
    const int i = at % r.half;
    float* x = r.x + t * r.token + at / r.half * r.head;
    const float c = r.cos[row][i];
    const float s = r.sign * r.sin[row][i];
    const float first = x[i];
    const float second = x[i + r.half];
    x[i] = fmaf(first, c, -(second * s));
    x[i + r.half] = fmaf(second, c, first * s);
  }
}

}  // namespace

Status RopeCuda(const RopeParams& p, CudaContext& context) {
  const Rotation rotation{
      .x = p.x.as<float>(),
      .token = p.x.stride[0],
      .head = p.x.stride[1],
      .heads = static_cast<int>(p.x.shape[1]),
      .half = static_cast<int>(p.x.shape[2] / 2),
      .positions = p.positions.as<int32_t>(),
      .position = p.positions.stride[0],
      .cos = RowsOf(p.cos),
      .sin = RowsOf(p.sin),
      .table_rows = p.cos.shape[0],
      .sign = p.inverse ? -1.0f : 1.0f,
  };
  return Launch("rope", RopeKernel,
                {.grid = dim3(static_cast<unsigned>(p.x.shape[0])),
                 .block = dim3(kBlockThreads)},
                context.stream(), rotation, context.faults());
}

}  // namespace sinklora::kernels::cuda
