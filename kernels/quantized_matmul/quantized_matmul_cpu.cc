// Products with packed matrices. A task takes whole panels, so that no output
// element is shared and each is one chain of operations.
//
// f32 products: by bytes where the processor has them (byte_product.h), else
// levels become f32 in registers, 64 rows of b a pass, and are used for up to
// kMaxRows rows of a. bf16 products: dense_product.h.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"
#include "kernels/quantized_matmul/byte_product.h"
#include "kernels/quantized_matmul/dense_product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/quantized_matmul/quantized_matmul_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/quantized_matmul/packed_levels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int kMaxRows = HWY_TARGET == HWY_AVX3 ? 4 : 2;
// Rows of a whose sums are held at once.
constexpr int64_t kRowChunk = 16;
// How far ahead of its use memory is asked for, a block at a time: in small
// portions between the multiplications it comes a fifth slower, and left to the
// processor's own prefetching at half of the bandwidth.
constexpr int64_t kPrefetchBytes = 8192;

// totals[i][0 .. 64) += scale * (levels . a[i][0 .. count)) of kBlocks blocks,
// one after the other. Two are summed at a time where one would leave the
// multipliers waiting for each other's results.
template <QuantizedFormat kFormat, int kRows, int kBlocks>
HWY_INLINE void AddBlocks(const char* record, const float* a, int64_t a_stride,
                          int64_t count, float* totals) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  constexpr int64_t kRecord = QuantizedRecordBytes(kFormat);
  constexpr int64_t kCodeBytes = sizeof(uint32_t);  // a row's in a word
  for (int64_t row = 0; row < kQuantizedPanel; row += kVectors * lanes) {
    F32Vec sums[kBlocks][kRows][kVectors];
    for (auto& block : sums) {
      for (auto& one : block) {
        for (F32Vec& v : one) v = hn::Zero(d);
      }
    }
    ForEachColumn<kFormat, kBlocks>(
        record + kQuantizedScaleBytes + row * kCodeBytes, count,
        [&](int64_t c, const F32Vec(&levels)[kBlocks][kVectors]) HWY_ATTR {
          for (int b = 0; b < kBlocks; ++b) {
            for (int i = 0; i < kRows; ++i) {
              const F32Vec x =
                  hn::Set(d, a[i * a_stride + b * kQuantizedBlock + c]);
              for (int v = 0; v < kVectors; ++v) {
                sums[b][i][v] = hn::MulAdd(x, levels[b][v], sums[b][i][v]);
              }
            }
          }
        });
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = row + v * lanes;
      F32Vec scale[kBlocks];
      for (int b = 0; b < kBlocks; ++b) {
        scale[b] = LoadBf16(
            d, reinterpret_cast<const bf16_t*>(record + b * kRecord) + at);
      }
      for (int i = 0; i < kRows; ++i) {
        float* total = totals + i * kQuantizedPanel + at;
        F32Vec sum = hn::LoadU(d, total);
        for (int b = 0; b < kBlocks; ++b) {
          sum = hn::MulAdd(scale[b], sums[b][i][v], sum);
        }
        hn::StoreU(sum, d, total);
      }
    }
  }
}

HWY_INLINE void AskFor(const char* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) hwy::Prefetch(from + i);
}

// One block for `rows` rows of a.
template <QuantizedFormat kFormat>
HWY_INLINE void AddBlock(const char* record, const float* a, int64_t a_stride,
                         int64_t rows, int64_t count, float* totals) {
  AskFor(record + kPrefetchBytes, QuantizedRecordBytes(kFormat));
  while (rows >= kMaxRows) {
    AddBlocks<kFormat, kMaxRows, 1>(record, a, a_stride, count, totals);
    a += kMaxRows * a_stride;
    totals += kMaxRows * kQuantizedPanel;
    rows -= kMaxRows;
  }
  if (rows >= 2) {
    AddBlocks<kFormat, 2, 1>(record, a, a_stride, count, totals);
    a += 2 * a_stride;
    totals += 2 * kQuantizedPanel;
    rows -= 2;
  }
  if (rows == 1) AddBlocks<kFormat, 1, 1>(record, a, a_stride, count, totals);
}

template <QuantizedFormat kFormat>
void MultiplyRows(const QuantizedMatMulParams& p, int64_t panel, int64_t begin,
                  int64_t rows) {
  const int64_t cols = p.b.cols;
  const int64_t whole = cols / kQuantizedBlock;
  const float* a = At(p.a, begin);
  const int64_t stride = p.a.stride[0];
  HWY_ALIGN float totals[kRowChunk * kQuantizedPanel];
  std::memset(totals, 0, rows * kQuantizedPanel * sizeof(float));
  int64_t b = 0;
  for (; rows == 1 && b + 2 <= whole; b += 2) {
    const char* record = p.b.Record(panel, b);
    AskFor(record + kPrefetchBytes, 2 * QuantizedRecordBytes(kFormat));
    AddBlocks<kFormat, 1, 2>(record, a + b * kQuantizedBlock, stride,
                             kQuantizedBlock, totals);
  }
  for (; b < whole; ++b) {
    AddBlock<kFormat>(p.b.Record(panel, b), a + b * kQuantizedBlock, stride,
                      rows, kQuantizedBlock, totals);
  }
  if (whole * kQuantizedBlock < cols) {
    AddBlock<kFormat>(p.b.Record(panel, whole), a + whole * kQuantizedBlock,
                      stride, rows, cols - whole * kQuantizedBlock, totals);
  }
  const int64_t col = panel * kQuantizedPanel;
  const int64_t n = HWY_MIN(kQuantizedPanel, p.b.rows - col);
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(At(p.out, begin + i) + col, totals + i * kQuantizedPanel,
                n * sizeof(float));
  }
}

// out[:, columns of panels [begin, end)], f32 products.
void MultiplyPanels(const QuantizedMatMulParams& p, int64_t begin,
                    int64_t end) {
  // What the loops themselves ask for begins that far ahead.
  AskFor(p.b.Record(begin, 0), kPrefetchBytes);
  for (int64_t panel = begin; panel < end; ++panel) {
    for (int64_t i = 0; i < p.a.shape[0]; i += kRowChunk) {
      const int64_t rows = HWY_MIN(kRowChunk, p.a.shape[0] - i);
      if (p.b.format == kInt8) {
        MultiplyRows<kInt8>(p, panel, i, rows);
      } else {
        MultiplyRows<kInt4>(p, panel, i, rows);
      }
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(MultiplyPanels);

namespace {

// Below this many bytes of b waking the other threads costs more than it saves.
constexpr int64_t kSerialBytes = int64_t{64} << 10;

#if HWY_ARCH_X86
const ByteBlock* PackByteRows(const QuantizedMatMulParams& p,
                              CpuContext& context) {
  const int64_t rows = p.a.shape[0];
  const int64_t k = p.b.cols;
  const int64_t blocks = QuantizedBlocks(k);
  auto* out = context.matmul_scratch.Reserve<ByteBlock>(rows * blocks);
  ParallelBlocks(context.pool, rows, RowsPerTask(k),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t i = begin; i < end; ++i) {
                     PackByteRow(At(p.a, i), k, p.b.format, out + i * blocks);
                   }
                 });
  return out;
}
#endif

void MultiplyF32(const QuantizedMatMulParams& p, CpuContext& context) {
  const int64_t panels = QuantizedPanels(p.b.rows);
  const bool serial =
      p.a.shape[0] * QuantizedBytes(p.b.format, p.b.rows, p.b.cols) <
      kSerialBytes;
  const int64_t step =
      serial ? panels : PanelsPerTask(panels, context.pool.num_threads());
#if HWY_ARCH_X86
  if (ActiveCpuIsa() >= CpuIsa::kAvx512Bf16) {
    const ByteBlock* a = PackByteRows(p, context);
    const int64_t together = (step + kBytePanels - 1) / kBytePanels;
    ParallelBlocks(context.pool, panels, together * kBytePanels,
                   [&](int64_t begin, int64_t end, int) {
                     MultiplyBytes(p, a, begin, end);
                   });
    return;
  }
#endif
  ParallelBlocks(context.pool, panels, step,
                 [&](int64_t begin, int64_t end, int) {
                   HWY_DYNAMIC_DISPATCH(MultiplyPanels)(p, begin, end);
                 });
}

}  // namespace

void QuantizedMatMul(const QuantizedMatMulParams& p, CpuContext& context) {
  if (p.a.shape[0] == 0 || p.b.rows == 0) return;
  if (p.b.cols == 0) {
    for (int64_t i = 0; i < p.out.shape[0]; ++i) {
      std::memset(At(p.out, i), 0, p.out.shape[1] * sizeof(float));
    }
  } else if (p.products == DType::kBF16) {
    MultiplyDense(p, context);
  } else {
    MultiplyF32(p, context);
  }
}

void DequantizeRows(const DequantizeRowsParams& p, CpuContext& context) {
  const int64_t cols = p.matrix.cols;
  ParallelBlocks(
      context.pool, p.ids.shape[0], RowsPerTask(cols),
      [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t row = p.ids.as<int32_t>()[i * p.ids.stride[0]];
          float* out = At(p.out, i);
          for (int64_t c = 0; c < cols; ++c) {
            out[c] = QuantizedScale(p.matrix, row, c) *
                     static_cast<float>(QuantizedLevel(p.matrix, row, c));
          }
        }
      });
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
