// Brings operands into the form that Gemm takes: one dtype, aligned rows. What
// is chosen depends on dtypes, columns and strides, never on the number of
// rows, so that a row has the same bits in any batch.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"
#include "kernels/matmul/tiled_gemm.h"

namespace sinklora::kernels::cuda {
namespace {

// A block row a matrix row; out is f32 or bf16.
SINKLORA_GLOBAL void PackKernel(FloatElements x, int64_t row_x, void* out,
                                bool out_bf16, int64_t row_out,
                                int64_t columns) {
  const int64_t i = blockIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.x;
  for (int64_t j = blockIdx.y * blockDim.x + threadIdx.x; j < columns;
       j += step) {
    const float value = x[i * row_x + j];
    if (out_bf16) {
      static_cast<bf16_t*>(out)[i * row_out + j] = Bf16FromFloat(value);
    } else {
      static_cast<float*>(out)[i * row_out + j] = value;
    }
  }
}

SINKLORA_GLOBAL void ZeroRowsKernel(char* data, int64_t row_bytes,
                                    int64_t bytes) {
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.x;
  for (int64_t j = blockIdx.y * blockDim.x + threadIdx.x; j < bytes;
       j += step) {
    data[blockIdx.x * row_bytes + j] = 0;
  }
}

LaunchShape RowShape(int64_t rows, int64_t columns) {
  return {.grid = dim3(static_cast<unsigned>(rows),
                       static_cast<unsigned>(
                           CeilDiv(columns, int64_t{4} * kBlockThreads))),
          .block = dim3(kBlockThreads)};
}

bool Aligned(const ConstTensorView& x) {
  const auto address = reinterpret_cast<uintptr_t>(x.data);
  return address % Gemm::kAlignmentBytes == 0 &&
         x.stride[0] * SizeOf(x.dtype) % Gemm::kAlignmentBytes == 0;
}

// `x` itself where it has the dtype and lies well, else a copy that does.
Status Pack(const ConstTensorView& x, DType dtype, CudaContext& context,
            ConstTensorView* out) {
  *out = x;
  if (x.dtype == dtype && Aligned(x)) return OkStatus();
  const int64_t per_unit = Gemm::kAlignmentBytes / SizeOf(dtype);
  const int64_t row = CeilDiv(x.shape[1], per_unit) * per_unit;
  char* copy = nullptr;
  Status status = context.Scratch(x.shape[0] * row * SizeOf(dtype), &copy);
  if (!status.ok()) return status;
  out->data = copy;
  out->dtype = dtype;
  out->stride[0] = row;
  return Launch("matmul_pack", PackKernel, RowShape(x.shape[0], x.shape[1]),
                context.stream(), ElementsOf(x), x.stride[0], copy,
                dtype == DType::kBF16, row, x.shape[1]);
}

}  // namespace

Status MatMulCuda(const MatMulParams& p, CudaContext& context) {
  const int64_t k = p.a.shape[p.transpose_a ? 0 : 1];
  if (p.out.num_elements() == 0) return OkStatus();
  if (k == 0) {
    if (p.beta != 0.0f) return OkStatus();
    const int64_t size = SizeOf(p.out.dtype);
    const int64_t bytes = p.out.shape[1] * size;
    return Launch("matmul_zero", ZeroRowsKernel,
                  RowShape(p.out.shape[0], bytes), context.stream(),
                  p.out.as<char>(), p.out.stride[0] * size, bytes);
  }
  const bool f32 = p.a.dtype == DType::kF32 && p.b.dtype == DType::kF32;
  const DType operands = f32 ? DType::kF32 : DType::kBF16;
  ConstTensorView a, b;
  Status status = Pack(p.a, operands, context, &a);
  if (status.ok()) status = Pack(p.b, operands, context, &b);
  if (!status.ok()) return status;
  const GemmCall call{.operands = operands,
                      .result = p.out.dtype,
                      .m = p.out.shape[0],
                      .n = p.out.shape[1],
                      .k = k,
                      .a = a.data,
                      .b = b.data,
                      .out = p.out.data,
                      .row_a = a.stride[0],
                      .row_b = b.stride[0],
                      .row_out = p.out.stride[0],
                      .transpose_a = p.transpose_a,
                      .transpose_b = p.transpose_b,
                      .alpha = p.alpha,
                      .beta = p.beta};
  if (Aligned(p.out)) {
    status = context.gemm().Run(call, context.stream());
    if (status.code() != StatusCode::kUnimplemented) return status;
  }
  return TiledGemm(call, context.stream());
}

}  // namespace sinklora::kernels::cuda
