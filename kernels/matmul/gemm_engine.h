// Dense matrix products on the calling thread: oneDNN's blocked kernels where
// the processor has them (AVX-512), with one of our own for a few rows and one
// for bf16 in AMX tiles; a Highway kernel elsewhere.
//
// Either way the bits of an output element depend on its row of a, its column
// of b and k alone: not on m, n, or the tile of a larger product that is asked
// for. oneDNN's other implementations do not give that, so a shape that would
// fall to one of them is an error, never a silent change.
//
// Thread-safe for calls with distinct `thread`. Primitives are cached by shape.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_GEMM_ENGINE_H_
#define SINKLORA_KERNELS_MATMUL_GEMM_ENGINE_H_

#include <cstdint>
#include <memory>

#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

// out[m, n] = alpha * a[m, k] * op(b) + (accumulate ? out : 0), all row-major
// without gaps, b in `dtype`. m, n, k >= 1.
struct GemmShape {
  int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::kF32;      // of the products; bf16 needs has_bf16()
  DType a_dtype = dtype;          // f32 for bf16 products needs rounds_a()
  DType out_dtype = DType::kF32;  // bf16 needs bf16 operands
  bool transpose_b = false;       // b is [n, k] instead of [k, n]
  bool b_in_tiles = false;        // b is what PackB made of it
  bool accumulate = false;
  float alpha = 1.0f;

  bool operator==(const GemmShape&) const = default;
};

class GemmEngine {
 public:
  // `thread` of Run lies in [0, num_threads).
  explicit GemmEngine(int num_threads);
  ~GemmEngine();

  // Whether bf16 operands are multiplied natively. Without it callers widen to
  // f32, which loses nothing.
  bool has_bf16() const;

  // Whether bf16 products take an f32 `a`, which they round to nearest even.
  bool rounds_a() const;

  // Whether products of `dtype` and many rows are faster with b in tiles.
  bool packs_b(DType dtype) const;
  // Bytes of b in tiles, and columns [column, column + columns) of it,
  // multiples of 32 in [0, n up to a multiple of 32]: `b` as the shape says
  // without b_in_tiles, `tiles` 64-byte aligned. REQUIRES: packs_b().
  int64_t TilesBytes(int64_t n, int64_t k) const;
  void PackB(const GemmShape& shape, const void* b, int64_t column,
             int64_t columns, void* tiles) const;

  // Terms of a sum that are one chain of multiply-adds from zero; chains are
  // added in order. 0 where that is not how `k` terms are summed. As Run().
  int64_t SumChunk(DType dtype, int64_t k);

  // Throws std::bad_alloc, dnnl::error or std::runtime_error.
  void Run(const GemmShape& shape, const void* a, const void* b, void* out,
           int thread);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_MATMUL_GEMM_ENGINE_H_
