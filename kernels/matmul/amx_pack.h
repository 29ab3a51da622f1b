// Operands of a product as AMX tiles (kernels/cpu/amx.h): 16 rows or columns
// are a line of tiles along k, 32 elements each, zeros beyond both extents.
//
// Thread-safe: no state. x86-64 only. REQUIRES for all: AmxUsable(); the
// functions do not check.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_MATMUL_AMX_PACK_H_
#define SINKLORA_KERNELS_MATMUL_AMX_PACK_H_

#include <cstdint>

#include "kernels/cpu/amx.h"
#include "kernels/tensor.h"

namespace sinklora::kernels::cpu {

// Tiles along k.
inline int64_t TilesOf(int64_t k) {
  return (k + kTileElements - 1) / kTileElements;
}

// Rows [row, row + 16) of x [rows][k], a left operand. f32 is rounded to
// nearest even.
void PackTileRows(const bf16_t* x, int64_t rows, int64_t k, int64_t row,
                  char* tiles);
void PackTileRows(const float* x, int64_t rows, int64_t k, int64_t row,
                  char* tiles);

// Columns [column, column + 32) of x [k][columns], a right operand: two lines
// of tiles, one after the other.
void PackTwoTileColumns(const bf16_t* x, int64_t columns, int64_t k,
                        int64_t column, char* tiles);

// Columns [column, column + 16) of the transpose of x [columns][k].
void PackTransposedTileColumns(const bf16_t* x, int64_t columns, int64_t k,
                               int64_t column, char* tiles);
void PackTransposedTileColumns(const float* x, int64_t columns, int64_t k,
                               int64_t column, char* tiles);

// The whole transpose of x [columns][k], columns <= 16, for tiles of so many
// words a row: words[pair][columns].
void PackNarrowTileColumns(const bf16_t* x, int64_t columns, int64_t k,
                           uint32_t* words);
void PackNarrowTileColumns(const float* x, int64_t columns, int64_t k,
                           uint32_t* words);

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_MATMUL_AMX_PACK_H_
