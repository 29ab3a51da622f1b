// Reading packed matrices (quantized_matrix.h) in CUDA kernels.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_QUANTIZED_MATMUL_PACKED_DEVICE_H_
#define SINKLORA_KERNELS_QUANTIZED_MATMUL_PACKED_DEVICE_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/quantized_matmul/quantized_matrix.h"

namespace sinklora::kernels::cuda {

struct PackedMatrix {
  const char* data;
  int64_t blocks;        // of a row
  int64_t record_bytes;  // scales and codes of a panel and block
  bool int8;
  float levels[16];  // of 4-bit codes

  SINKLORA_DEVICE const char* Record(int64_t panel, int64_t block) const {
    return data + (panel * blocks + block) * record_bytes;
  }
  SINKLORA_DEVICE float Scale(int64_t row, int64_t col) const {
    const char* record = Record(row / kQuantizedPanel, col / kQuantizedBlock);
    return FloatFromBf16(
        reinterpret_cast<const bf16_t*>(record)[row % kQuantizedPanel]);
  }
  SINKLORA_DEVICE float Level(int64_t row, int64_t col) const {
    const char* codes = Record(row / kQuantizedPanel, col / kQuantizedBlock) +
                        kQuantizedScaleBytes;
    const int64_t r = row % kQuantizedPanel;
    const int64_t c = col % kQuantizedBlock;
    if (int8) {
      return reinterpret_cast<const int8_t*>(codes)[QuantizedInt8At(r, c)];
    }
    const uint32_t word =
        reinterpret_cast<const uint32_t*>(codes)[c / 8 * kQuantizedPanel + r];
    return levels[word >> (4 * (c % 8)) & 15];
  }
};

inline PackedMatrix PackedOf(const QuantizedMatrix& m) {
  PackedMatrix out{static_cast<const char*>(m.data),
                   QuantizedBlocks(m.cols),
                   QuantizedRecordBytes(m.format),
                   m.format == QuantizedFormat::kInt8,
                   {}};
  std::copy(kInt4Levels.begin(), kInt4Levels.end(), out.levels);
  return out;
}

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_QUANTIZED_MATMUL_PACKED_DEVICE_H_
