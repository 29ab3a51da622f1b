// out[c] += sum over rows of term(row, c): gradients of biases and norms. Rows
// are summed in chunks, then the chunks, so that the order depends on nothing
// but their number.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_COLUMN_SUMS_H_
#define SINKLORA_KERNELS_CUDA_COLUMN_SUMS_H_

#include <cstdint>

#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"
#include "kernels/status.h"

namespace sinklora::kernels::cuda {

inline constexpr int64_t kColumnSumRows = 128;  // a chunk

template <typename Term>
SINKLORA_GLOBAL void ChunkSumsKernel(Term term, int64_t rows, int64_t columns,
                                     float* sums /* [chunks, columns] */) {
  const int64_t column =
      static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (column >= columns) return;
  const int64_t begin = blockIdx.x * kColumnSumRows;
  const int64_t end =
      begin + kColumnSumRows < rows ? begin + kColumnSumRows : rows;
  float sum = 0.0f;
  for (int64_t t = begin; t < end; ++t) sum += term(t, column);
  sums[blockIdx.x * columns + column] = sum;
}

// A template only so that it may stand in a header.
template <typename T>
SINKLORA_GLOBAL void AddChunksKernel(const T* sums, int64_t chunks,
                                     int64_t columns, T* out) {
  const int64_t column =
      static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= columns) return;
  T sum = 0;
  for (int64_t i = 0; i < chunks; ++i) sum += sums[i * columns + column];
  out[column] += sum;
}

// `term`: a struct with SINKLORA_DEVICE float operator()(int64_t row, int64_t
// column) const.
template <typename Term>
Status AddColumnSums(const char* name, const Term& term, int64_t rows,
                     int64_t columns, float* out, CudaContext& context) {
  if (rows == 0 || columns == 0) return OkStatus();
  const int64_t chunks = CeilDiv(rows, kColumnSumRows);
  const auto column_blocks =
      static_cast<unsigned>(CeilDiv(columns, kBlockThreads));
  float* sums = nullptr;
  Status status = context.Scratch(chunks * columns, &sums);
  if (status.ok()) {
    status = Launch(name, ChunkSumsKernel<Term>,
                    {.grid = dim3(static_cast<unsigned>(chunks), column_blocks),
                     .block = dim3(kBlockThreads)},
                    context.stream(), term, rows, columns, sums);
  }
  if (!status.ok()) return status;
  return Launch(name, AddChunksKernel<float>,
                {.grid = dim3(column_blocks), .block = dim3(kBlockThreads)},
                context.stream(), sums, chunks, columns, out);
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_COLUMN_SUMS_H_
