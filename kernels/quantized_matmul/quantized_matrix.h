// A weight matrix of 8 or 4 bits: blocks of 32 neighbouring weights of a row
// share one scale.
//
//   weight[r][c] = scale[r][c / 32] * level(code[r][c])
//
// kInt8: level(code) = code in [-127, 127]; 8.5 bits a weight.
// kInt4: level(code) = kInt4Levels[code], code in [0, 16); 4.5 bits a weight.
// The levels lie closer near 0, where most weights of a block are: relative to
// 16 even steps with the best scale the error of normally distributed weights
// is a tenth smaller (7.4 % of their rms against 8.1 %; Q4_0 of GGUF: 8.6 %).
// The idea is that of llama.cpp's IQ4_NL; these levels have an exact 0.
//
// Layout. Rows are cut into panels of 64, columns into blocks of 32; the last
// of both are filled up with zeros. Panel after panel, block after block lies
// one record: 64 scales as bf16 (a row each), then the codes,
//   kInt8: uint32 [8][64 rows], whose byte j is the code of column 4 g + j in
//          word [g],
//   kInt4: uint32 [4][64 rows], whose bits 4 j .. 4 j + 3 are the code of
//          column 8 g + j in word [g].
// So a product streams through memory once, with a row in each vector lane.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_QUANTIZED_MATMUL_QUANTIZED_MATRIX_H_
#define SINKLORA_KERNELS_QUANTIZED_MATMUL_QUANTIZED_MATRIX_H_

#include <array>
#include <cstdint>

#include "kernels/tensor.h"

namespace sinklora::kernels {

enum class QuantizedFormat { kInt8, kInt4 };

inline constexpr int64_t kQuantizedBlock = 32;
inline constexpr int64_t kQuantizedPanel = 64;
// Weights of a block below this are stored as 0.
inline constexpr float kQuantizedTiny = 0x1p-100f;

inline constexpr std::array<int8_t, 16> kInt4Levels = {
    -127, -104, -83, -65, -49, -35, -23, -11, 0, 11, 23, 36, 51, 68, 88, 113};

constexpr int64_t QuantizedPanels(int64_t rows) {
  return (rows + kQuantizedPanel - 1) / kQuantizedPanel;
}
constexpr int64_t QuantizedBlocks(int64_t cols) {
  return (cols + kQuantizedBlock - 1) / kQuantizedBlock;
}
inline constexpr int64_t kQuantizedScaleBytes =
    kQuantizedPanel * static_cast<int64_t>(sizeof(bf16_t));
constexpr int64_t QuantizedRecordBytes(QuantizedFormat format) {
  const int64_t weights = kQuantizedPanel * kQuantizedBlock;
  return kQuantizedScaleBytes +
         (format == QuantizedFormat::kInt8 ? weights : weights / 2);
}
constexpr int64_t QuantizedBytes(QuantizedFormat format, int64_t rows,
                                 int64_t cols) {
  return QuantizedPanels(rows) * QuantizedBlocks(cols) *
         QuantizedRecordBytes(format);
}

// View of a packed matrix; owns nothing. 64-byte aligned.
struct QuantizedMatrix {
  const void* data = nullptr;
  QuantizedFormat format = QuantizedFormat::kInt8;
  int64_t rows = 0, cols = 0;

  bool empty() const { return data == nullptr; }
  // The record of a panel and block.
  const char* Record(int64_t panel, int64_t block) const {
    return static_cast<const char*>(data) +
           (panel * QuantizedBlocks(cols) + block) *
               QuantizedRecordBytes(format);
  }
};

// Where the code of row r of a panel and column c of a block lies.
constexpr int64_t QuantizedInt8At(int64_t r, int64_t c) {
  return (c / 4 * kQuantizedPanel + r) * 4 + c % 4;
}

// Scale and level of one weight.
inline float QuantizedScale(const QuantizedMatrix& m, int64_t row,
                            int64_t col) {
  const char* record = m.Record(row / kQuantizedPanel, col / kQuantizedBlock);
  return FromBf16(
      reinterpret_cast<const bf16_t*>(record)[row % kQuantizedPanel]);
}
inline int QuantizedLevel(const QuantizedMatrix& m, int64_t row, int64_t col) {
  const char* codes = m.Record(row / kQuantizedPanel, col / kQuantizedBlock) +
                      kQuantizedScaleBytes;
  const int64_t r = row % kQuantizedPanel;
  const int64_t c = col % kQuantizedBlock;
  if (m.format == QuantizedFormat::kInt8) {
    return reinterpret_cast<const int8_t*>(codes)[QuantizedInt8At(r, c)];
  }
  const uint32_t word =
      reinterpret_cast<const uint32_t*>(codes)[c / 8 * kQuantizedPanel + r];
  return kInt4Levels[word >> (4 * (c % 8)) & 15];
}

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_QUANTIZED_MATMUL_QUANTIZED_MATRIX_H_
