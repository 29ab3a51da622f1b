// Products with packed matrices by the processor's dot products of bytes
// (AVX512-VNNI): a fifth of the instructions that f32 products take, so that
// memory stays the limit.
//
// Activations become whole numbers of 16 bits times a power of two, one for
// each block of 32, and are multiplied as two bytes each: value = scale *
// (256 * high + low). Sums of a block are exact in 32 bits; one fused
// multiply-add a block brings them into the result, in ascending order. So a
// result depends on nothing but its own row.
//
// Rounding: an activation is off by at most 2^-15 of the largest of its block;
// whole numbers below 2^14 of that largest are exact where it is one. A block
// whose largest is below kQuantizedTiny counts as zeros, one that holds NaN or
// Inf makes the row NaN.
//
// Thread-safe: no state. REQUIRES for all: the processor has AVX512-VNNI (cpu
// levels avx512_bf16 and up); the functions do not check. x86-64 only.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_QUANTIZED_MATMUL_BYTE_PRODUCT_H_
#define SINKLORA_KERNELS_QUANTIZED_MATMUL_BYTE_PRODUCT_H_

#include <cstdint>

#include "kernels/quantized_matmul/quantized_matmul.h"

namespace sinklora::kernels::cpu {

// 32 activations of a row. Byte i of word w belongs to column
//   kInt8: 4 w + i,
//   kInt4: 8 (w / 2) + 2 i + w % 2: as the codes lie in their words.
struct ByteBlock {
  int32_t high[8];
  int32_t low[8];
  int32_t offset;  // -128 times the sum of all: levels are multiplied + 128
  float scale;
};

// Row of k activations to QuantizedBlocks(k) blocks.
void PackByteRow(const float* a, int64_t k, QuantizedFormat format,
                 ByteBlock* out);

// Panels that MultiplyBytes reads at the same time, which is faster.
inline constexpr int64_t kBytePanels = 2;

// out[:, rows of b in panels [begin, end)], best a multiple of kBytePanels of
// them; `a` has the packed rows of p.a, one after the other.
void MultiplyBytes(const QuantizedMatMulParams& p, const ByteBlock* a,
                   int64_t begin, int64_t end);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_QUANTIZED_MATMUL_BYTE_PRODUCT_H_
