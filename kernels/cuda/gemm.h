// Matrix products of operands that lie well: the seam between matmul_cuda and
// the library that multiplies (cuBLASLt in the plugin, a host loop under the
// emulator).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_GEMM_H_
#define SINKLORA_KERNELS_CUDA_GEMM_H_

#include <cstdint>
#include <string>

#include "kernels/cuda/runtime.h"
#include "kernels/status.h"
#include "kernels/tensor.h"

namespace sinklora::kernels::cuda {

// As MatMulParams; row-major.
struct GemmCall {
  DType operands = DType::kF32;  // of a and b: f32 or bf16
  DType result = DType::kF32;
  int64_t m = 0, n = 0, k = 0;  // all > 0
  const void* a = nullptr;
  const void* b = nullptr;
  void* out = nullptr;
  int64_t row_a = 0, row_b = 0, row_out = 0;  // elements from row to row
  bool transpose_a = false, transpose_b = false;
  float alpha = 1.0f, beta = 0.0f;
};

class Gemm {
 public:
  // Addresses and rows of a, b and out are multiples of this.
  static constexpr int64_t kAlignmentBytes = 16;

  virtual ~Gemm() = default;
  virtual std::string name() const = 0;  // e.g. "cuBLASLt 13.1.0"
  // Queues the product on `stream`. f32 operands are multiplied as f32. A row
  // of `out` has the same bits whatever m is. kUnimplemented for a product it
  // has nothing for, which does not depend on m either.
  virtual Status Run(const GemmCall& call, Stream stream) = 0;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_GEMM_H_
