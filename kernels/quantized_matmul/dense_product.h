// Products with packed matrices for many rows: values are rounded to bf16,
// tiles of the matrix become dense and go to the GemmEngine.
//
// Thread-safe but for the context, which has one caller at a time.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_QUANTIZED_MATMUL_DENSE_PRODUCT_H_
#define SINKLORA_KERNELS_QUANTIZED_MATMUL_DENSE_PRODUCT_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/cpu_context.h"
#include "kernels/quantized_matmul/quantized_matmul.h"

namespace sinklora::kernels::cpu {

// Panels a task, so that a slow core can do fewer tasks.
inline int64_t PanelsPerTask(int64_t panels, int64_t threads) {
  constexpr int64_t kTasksPerThread = 16;
  return std::max<int64_t>(1, panels / (threads * kTasksPerThread));
}

// The product p asks for with kBF16. REQUIRES: no dimension is 0.
void MultiplyDense(const QuantizedMatMulParams& p, CpuContext& context);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_QUANTIZED_MATMUL_DENSE_PRODUCT_H_
