// Packs matrices of 8 and 4 bits and reads rows of them. A thread a row of a
// record.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"
#include "kernels/quantized_matmul/int4_search.h"
#include "kernels/quantized_matmul/packed_device.h"

namespace sinklora::kernels::cuda {
namespace {

constexpr int kRow = static_cast<int>(kQuantizedPanel);
constexpr int kBlock = static_cast<int>(kQuantizedBlock);

struct Tables {
  float factors[kInt4Factors.size()];
  float outer[kInt4OuterLevels.size()];
  float middles[kInt4Middles.size()];
  float levels[kInt4Levels.size()];
};

Tables MakeTables() {
  Tables t{};
  std::copy(kInt4Factors.begin(), kInt4Factors.end(), t.factors);
  std::copy(kInt4OuterLevels.begin(), kInt4OuterLevels.end(), t.outer);
  std::copy(kInt4Middles.begin(), kInt4Middles.end(), t.middles);
  std::copy(kInt4Levels.begin(), kInt4Levels.end(), t.levels);
  return t;
}

SINKLORA_DEVICE int NearestCode(const Tables& t, float x) {
  int code = 0;
  for (const float middle : t.middles) code += x > middle;
  return code;
}

// The scale over `top` with the smallest squared error; see BestInt4Scale of
// the CPU.
SINKLORA_DEVICE float BestScale(const Tables& t, const float* w, float top,
                                float sign) {
  const float inverse_top = 1.0f / top;
  float best = 0.0f;
  float least = 1e30f;
  for (const float outer : t.outer) {
    for (const float factor : t.factors) {
      const float scale = sign * (factor / outer);
      const float inverse = sign * (outer / factor) * inverse_top;
      float product = 0.0f, square = 0.0f;
      for (int c = 0; c < kBlock; ++c) {
        const float level = t.levels[NearestCode(t, w[c] * inverse)];
        product = fmaf(w[c] * inverse_top, level, product);
        square = fmaf(level, level, square);
      }
      for (int refit = 0; refit < 2; ++refit) {
        const float candidate = refit == 0 ? scale : product / square;
        // Less the weights' own squares, which all candidates share.
        const float error =
            candidate * fmaf(candidate, square, -2.0f * product);
        if (error < least) {
          least = error;
          best = candidate;
        }
      }
    }
  }
  return best;
}

// Scale of the weights of one row of a record, in bf16.
SINKLORA_DEVICE bf16_t ScaleOf(const Tables& t, const float* w,
                               QuantizedFormat format) {
  float largest = 0.0f;
  for (int c = 0; c < kBlock; ++c) {
    // Of equal magnitudes the positive one, as on the CPU.
    const float at = fabsf(w[c]);
    const float top = fabsf(largest);
    if (at > top || (at == top && w[c] > largest)) largest = w[c];
  }
  const float top = fabsf(largest);
  if (top < kQuantizedTiny) return Bf16FromFloat(0.0f);
  if (format == QuantizedFormat::kInt8) return Bf16FromFloat(top / 127.0f);
  const float sign = largest < 0.0f ? -1.0f : 1.0f;
  return Bf16FromFloat(BestScale(t, w, top, sign) * top);
}

struct Weights {
  FloatElements data;
  int64_t row, rows, cols;
};

SINKLORA_GLOBAL void CheckFiniteKernel(Weights w, DeviceFaults* faults) {
  const int64_t r = blockIdx.x;
  for (int64_t c = threadIdx.x; c < w.cols; c += blockDim.x) {
    const float value = w.data[r * w.row + c];
    if (!(fabsf(value) <= 3.402823466e38f)) {
      NoteFault(faults, ValueCheck::kQuantizeWeight, r * w.cols + c,
                BitsOfFloat(value), 0, w.cols);
    }
  }
}

SINKLORA_DEVICE void StoreCodes(const Tables& t, const float* w, float scale,
                                QuantizedFormat format, int row, char* codes) {
  for (int g = 0; g < kBlock / 8; ++g) {
    uint32_t word = 0;
    for (int j = 0; j < 8; ++j) {
      const int c = 8 * g + j;
      const float x = scale == 0.0f ? 0.0f : w[c] / scale;
      if (format == QuantizedFormat::kInt8) {
        reinterpret_cast<int8_t*>(codes)[QuantizedInt8At(row, c)] =
            static_cast<int8_t>(fminf(fmaxf(rintf(x), -127.0f), 127.0f));
      } else {
        word |= static_cast<uint32_t>(NearestCode(t, x)) << (4 * j);
      }
    }
    if (format == QuantizedFormat::kInt4) {
      reinterpret_cast<uint32_t*>(codes)[g * kRow + row] = word;
    }
  }
}

// A block a record, a thread a row of it.
SINKLORA_GLOBAL void QuantizeKernel(Weights weights, Tables tables,
                                    QuantizedFormat format, char* out) {
  const int64_t panel = blockIdx.y;
  const int64_t block = blockIdx.x;
  const int row = threadIdx.x;
  const int64_t r = panel * kQuantizedPanel + row;
  float w[kBlock];
  for (int c = 0; c < kBlock; ++c) {
    const int64_t col = block * kQuantizedBlock + c;
    w[c] = r < weights.rows && col < weights.cols
               ? weights.data[r * weights.row + col]
               : 0.0f;
  }
  char* record =
      out + (panel * gridDim.x + block) * QuantizedRecordBytes(format);
  const bf16_t scale = ScaleOf(tables, w, format);
  reinterpret_cast<bf16_t*>(record)[row] = scale;
  StoreCodes(tables, w, FloatFromBf16(scale), format, row,
             record + kQuantizedScaleBytes);
}

SINKLORA_GLOBAL void DequantizeRowsKernel(PackedMatrix matrix, int64_t rows,
                                          int64_t cols, const int32_t* ids,
                                          int64_t id_stride, Rows out,
                                          DeviceFaults* faults) {
  const int64_t i = blockIdx.x;
  const int32_t id = ids[i * id_stride];
  if (!InRange(id, 0, rows, faults, ValueCheck::kDequantizeRowsIds, i)) return;
  for (int64_t c = threadIdx.x; c < cols; c += blockDim.x) {
    out[i][c] = matrix.Scale(id, c) * matrix.Level(id, c);
  }
}

}  // namespace

Status QuantizeCuda(const QuantizeParams& p, CudaContext& context) {
  const Weights w{ElementsOf(p.weight), p.weight.stride[0], p.weight.shape[0],
                  p.weight.shape[1]};
  if (w.rows == 0 || w.cols == 0) return OkStatus();
  Status status = Launch("quantize", CheckFiniteKernel,
                         {.grid = dim3(static_cast<unsigned>(w.rows)),
                          .block = dim3(kBlockThreads)},
                         context.stream(), w, context.faults());
  // Models are loaded once, so this op may wait to keep its promise that
  // nothing is written.
  if (status.ok()) status = context.TakeFaults();
  if (!status.ok()) return status;
  return Launch("quantize", QuantizeKernel,
                {.grid = dim3(static_cast<unsigned>(QuantizedBlocks(w.cols)),
                              static_cast<unsigned>(QuantizedPanels(w.rows))),
                 .block = dim3(kRow)},
                context.stream(), w, MakeTables(), p.format,
                static_cast<char*>(p.out));
}

Status DequantizeRowsCuda(const DequantizeRowsParams& p, CudaContext& context) {
  return Launch("dequantize_rows", DequantizeRowsKernel,
                {.grid = dim3(static_cast<unsigned>(p.ids.shape[0])),
                 .block = dim3(kBlockThreads)},
                context.stream(), PackedOf(p.matrix), p.matrix.rows,
                p.matrix.cols, p.ids.as<int32_t>(), p.ids.stride[0],
                RowsOf(p.out), context.faults());
}

}  // namespace sinklora::kernels::cuda
