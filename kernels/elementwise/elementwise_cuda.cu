// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_list.h"

namespace sinklora::kernels::cuda {
namespace {

// Elements whose squares one block adds: the order depends on nothing else.
constexpr int64_t kSumElements = 64 * kBlockThreads;

// The thread's squares of x[from, to), added to `sum`: those of elements that
// are a multiple of kBlockThreads behind element `first` + threadIdx.x.
// REQUIRES: first <= from.
SINKLORA_DEVICE double AddSquares(const float* x, int64_t first, int64_t from,
                                  int64_t to, double sum) {
  const int64_t own = first + threadIdx.x;
  const int64_t skipped =
      own < from ? CeilDiv(from - own, kBlockThreads) * kBlockThreads : 0;
  for (int64_t i = own + skipped; i < to; i += kBlockThreads) {
    const double value = x[i];
    sum = fma(value, value, sum);
  }
  return sum;
}

SINKLORA_GLOBAL void SquaresKernel(const float* x, int64_t n, double* sums) {
  SINKLORA_SHARED(double[kBlockWarps], shared);
  const int64_t begin = blockIdx.x * kSumElements;
  const int64_t end = begin + kSumElements < n ? begin + kSumElements : n;
  double sum = AddSquares(x, begin, begin, end, 0.0);
  sum = BlockSum(sum, shared);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The same sums where x is zero outside of the listed rows: zeros add nothing,
// so that what is left out changes no bit. Block (place in the list, which of
// the ranges of kSumElements that its row touches): that of the first row which
// touches a range adds up all that do. Sums of the other ranges stay.
SINKLORA_GLOBAL void RowSquaresKernel(const float* x, RowList list,
                                      double* sums, DeviceFaults* faults) {
  SINKLORA_SHARED(double[kBlockWarps], shared);
  const int64_t place = blockIdx.x;
  if (!list.Good(place)) {
    if (blockIdx.y == 0 && threadIdx.x == 0) {
      list.Note(place, faults, ValueCheck::kSumSquaresRows,
                ValueCheck::kSumSquaresRowOrder);
    }
    return;
  }
  const int64_t row = list[place] * list.columns;
  const int64_t range = row / kSumElements + blockIdx.y;
  const int64_t begin = range * kSumElements;
  const int64_t end = begin + kSumElements;
  if (begin >= row + list.columns) return;
  if (place > 0 && (list[place - 1] + int64_t{1}) * list.columns > begin) {
    return;
  }
  double sum = 0.0;
  for (int64_t i = place; i < list.count && list.Good(i); ++i) {
    const int64_t from = list[i] * list.columns;
    if (from >= end) break;
    const int64_t to = from + list.columns;
    sum = AddSquares(x, begin, from > begin ? from : begin, to < end ? to : end,
                     sum);
  }
  sum = BlockSum(sum, shared);
  if (threadIdx.x == 0) sums[range] = sum;
}

SINKLORA_GLOBAL void SumKernel(const double* x, int64_t n, double* sum) {
  SINKLORA_SHARED(double[kBlockWarps], shared);
  double part = 0.0;
  for (int64_t i = threadIdx.x; i < n; i += kBlockThreads) part += x[i];
  part = BlockSum(part, shared);
  if (threadIdx.x == 0) *sum = part;
}

// Block (place in the list, range of kRowColumns).
SINKLORA_GLOBAL void ZeroRowsKernel(float* x, RowList list,
                                    DeviceFaults* faults) {
  const RowPart part =
      list.Part(faults, ValueCheck::kZeroRows, ValueCheck::kZeroRowOrder);
  for (int64_t i = part.begin + threadIdx.x; i < part.end; i += kBlockThreads) {
    x[i] = 0.0f;
  }
}

SINKLORA_GLOBAL void ScaleKernel(float* x, float factor, int64_t n) {
  for (int64_t i = FlatThread(); i < n; i += FlatThreads()) x[i] *= factor;
}

SINKLORA_GLOBAL void ScaleColumnsKernel(Rows x, const float* factors,
                                        int64_t columns) {
  const int64_t column =
      static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (column < columns) x[blockIdx.x][column] *= factors[column];
}

SINKLORA_GLOBAL void AddKernel(const float* x, float alpha, float* out,
                               int64_t n) {
  for (int64_t i = FlatThread(); i < n; i += FlatThreads()) {
    out[i] = fmaf(alpha, x[i], out[i]);
  }
}

SINKLORA_GLOBAL void ToBf16Kernel(const float* x, bf16_t* out, int64_t n) {
  for (int64_t i = FlatThread(); i < n; i += FlatThreads()) {
    out[i] = Bf16FromFloat(x[i]);
  }
}

SINKLORA_GLOBAL void ToF32Kernel(const bf16_t* x, float* out, int64_t n) {
  for (int64_t i = FlatThread(); i < n; i += FlatThreads()) {
    out[i] = FloatFromBf16(x[i]);
  }
}

LaunchShape FlatShape(int64_t n, const CudaContext& context) {
  return {.grid = dim3(FlatBlocks(n, context.device().sm_count)),
          .block = dim3(kBlockThreads)};
}

// The sums of all `blocks` ranges.
Status SquaresOfRows(const SumSquaresParams& p, double* sums, int64_t blocks,
                     CudaContext& context) {
  const RowList list = RowListOf(p.rows, p.x);
  if (blocks == 0) return OkStatus();
  Status status = context.runtime().Zero(
      sums, blocks * static_cast<int64_t>(sizeof(double)));
  if (!status.ok()) return status;
  // A row touches one range more than it fills.
  const int64_t ranges = CeilDiv(list.columns, kSumElements) + 1;
  return Launch("sum_squares_of_rows", RowSquaresKernel,
                {.grid = dim3(static_cast<unsigned>(list.count),
                              static_cast<unsigned>(ranges)),
                 .block = dim3(kBlockThreads)},
                context.stream(), p.x.as<float>(), list, sums,
                context.faults());
}

}  // namespace

Status SumSquaresCuda(const SumSquaresParams& p, CudaContext& context) {
  const int64_t n = p.x.num_elements();
  const int64_t blocks = CeilDiv(n, kSumElements);
  double* sums = nullptr;
  double* total = nullptr;
  Status status = context.Scratch(blocks, &sums);
  if (status.ok()) status = context.Scratch(1, &total);
  if (status.ok() && p.rows.empty()) {
    status = Launch("sum_squares", SquaresKernel,
                    {.grid = dim3(static_cast<unsigned>(blocks)),
                     .block = dim3(kBlockThreads)},
                    context.stream(), p.x.as<float>(), n, sums);
  } else if (status.ok()) {
    status = SquaresOfRows(p, sums, blocks, context);
  }
  if (status.ok()) {
    status = Launch("sum_squares", SumKernel,
                    {.grid = dim3(1), .block = dim3(kBlockThreads)},
                    context.stream(), sums, blocks, total);
  }
  if (!status.ok()) return status;
  return context.CopyToHost(total, p.result, sizeof(double));
}

Status ZeroRowsCuda(const ZeroRowsParams& p, CudaContext& context) {
  const RowList list = RowListOf(p.rows, p.x);
  return Launch("zero_rows", ZeroRowsKernel, ShapeOf(list), context.stream(),
                p.x.as<float>(), list, context.faults());
}

Status ScaleCuda(const ScaleParams& p, CudaContext& context) {
  const int64_t n = p.x.num_elements();
  return Launch("scale", ScaleKernel, FlatShape(n, context), context.stream(),
                p.x.as<float>(), p.factor, n);
}

Status ScaleColumnsCuda(const ScaleColumnsParams& p, CudaContext& context) {
  const int64_t columns = p.x.shape[1];
  return Launch(
      "scale_columns", ScaleColumnsKernel,
      {.grid = dim3(static_cast<unsigned>(p.x.shape[0]),
                    static_cast<unsigned>(CeilDiv(columns, kBlockThreads))),
       .block = dim3(kBlockThreads)},
      context.stream(), RowsOf(p.x), p.factors.as<float>(), columns);
}

Status AddCuda(const AddParams& p, CudaContext& context) {
  const int64_t n = p.x.num_elements();
  return Launch("add", AddKernel, FlatShape(n, context), context.stream(),
                p.x.as<float>(), p.alpha, p.out.as<float>(), n);
}

Status CastCuda(const CastParams& p, CudaContext& context) {
  const int64_t n = p.x.num_elements();
  if (p.x.dtype == p.out.dtype) {
    if (n == 0 || p.x.data == p.out.data) return OkStatus();
    return context.runtime().CopyOnDevice(p.x.data, p.out.data,
                                          n * SizeOf(p.x.dtype));
  }
  if (p.x.dtype == DType::kF32) {
    return Launch("cast", ToBf16Kernel, FlatShape(n, context), context.stream(),
                  p.x.as<float>(), p.out.as<bf16_t>(), n);
  }
  return Launch("cast", ToF32Kernel, FlatShape(n, context), context.stream(),
                p.x.as<bf16_t>(), p.out.as<float>(), n);
}

}  // namespace sinklora::kernels::cuda
