// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantized_matmul/dense_product.h"

#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/quantized_matmul/dense_product.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/quantized_matmul/packed_levels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// scale * level of one record rounded to bf16, column c of the block at
// to + c * stride, as bf16 or as f32.
template <QuantizedFormat kFormat, typename T>
void FillRecord(const char* record, int64_t count, T* to, int64_t stride) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  constexpr int64_t kCodeBytes = sizeof(uint32_t);  // a row's in a word
  for (int64_t row = 0; row < kQuantizedPanel; row += kVectors * lanes) {
    F32Vec scale[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      scale[v] = LoadBf16(
          d, reinterpret_cast<const bf16_t*>(record) + row + v * lanes);
    }
    ForEachColumn<kFormat, 1>(
        record + kQuantizedScaleBytes + row * kCodeBytes, count,
        [&](int64_t c, const F32Vec(&levels)[1][kVectors]) HWY_ATTR {
          for (int v = 0; v < kVectors; ++v) {
            const F32Vec weight = hn::Mul(scale[v], levels[0][v]);
            T* at = to + c * stride + row + v * lanes;
            if constexpr (sizeof(T) == sizeof(bf16_t)) {
              StoreBf16(weight, d, at);
            } else {
              HWY_ALIGN bf16_t bits[HWY_MAX_BYTES / sizeof(float)];
              StoreBf16(weight, d, bits);
              hn::StoreU(LoadBf16(d, bits), d, at);
            }
          }
        });
  }
}

template <typename T>
void FillPanel(const QuantizedMatrix& b, int64_t panel, T* to, int64_t stride) {
  for (int64_t block = 0; block < QuantizedBlocks(b.cols); ++block) {
    const int64_t k = block * kQuantizedBlock;
    const int64_t count = HWY_MIN(kQuantizedBlock, b.cols - k);
    const char* record = b.Record(panel, block);
    if (b.format == kInt8) {
      FillRecord<kInt8>(record, count, to + k * stride, stride);
    } else {
      FillRecord<kInt4>(record, count, to + k * stride, stride);
    }
  }
}

void FillPanelBf16(const QuantizedMatrix& b, int64_t panel, bf16_t* to,
                   int64_t stride) {
  FillPanel(b, panel, to, stride);
}

void FillPanelF32(const QuantizedMatrix& b, int64_t panel, float* to,
                  int64_t stride) {
  FillPanel(b, panel, to, stride);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(FillPanelBf16);
HWY_EXPORT(FillPanelF32);

namespace {

// Rows of a that are converted at a time, for which b is made dense once.
constexpr int64_t kDenseRows = 1024;
// Rows of a multiplied with a tile of b at a time: bounds its output.
constexpr int64_t kTileRows = 256;
// A tile of b stays in a core's cache.
constexpr int64_t kTileBytes = int64_t{512} << 10;
constexpr int64_t kMostTilePanels = 4;

// Products of values rounded to bf16, by tiles of b.
class DenseProduct {
 public:
  DenseProduct(const QuantizedMatMulParams& p, CpuContext& context)
      : p_(p),
        context_(context),
        dtype_(context.gemm.has_bf16() ? DType::kBF16 : DType::kF32) {}

  void Run() {
    const int64_t panels = QuantizedPanels(p_.b.rows);
    const int64_t panel_bytes = p_.b.cols * kQuantizedPanel * SizeOf(dtype_);
    const int64_t step = std::clamp<int64_t>(
        std::min(kTileBytes / panel_bytes,
                 PanelsPerTask(panels, context_.pool.num_threads())),
        1, kMostTilePanels);
    for (int64_t row = 0; row < p_.a.shape[0]; row += kDenseRows) {
      const int64_t rows = std::min(kDenseRows, p_.a.shape[0] - row);
      ConvertRows(row, rows);
      ParallelBlocks(context_.pool, panels, step,
                     [&](int64_t begin, int64_t end, int thread) {
                       RunTile(row, rows, begin, end - begin, thread);
                     });
    }
  }

 private:
  void ConvertRows(int64_t row, int64_t rows);
  void RunTile(int64_t row, int64_t rows, int64_t panel, int64_t panels,
               int thread);

  const QuantizedMatMulParams& p_;
  CpuContext& context_;
  const DType dtype_;        // as multiplied; the values are bf16's either way
  char* dense_a_ = nullptr;  // [rows][k] of the rows being worked on
};

void DenseProduct::ConvertRows(int64_t row, int64_t rows) {
  const int64_t k = p_.b.cols;
  dense_a_ = context_.matmul_scratch.Reserve<char>(rows * k * SizeOf(dtype_));
  ParallelBlocks(context_.pool, rows, RowsPerTask(k),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t i = begin; i < end; ++i) {
                     const float* from = At(p_.a, row + i);
                     char* to = dense_a_ + i * k * SizeOf(dtype_);
                     if (dtype_ == DType::kBF16) {
                       ConvertToBf16(from, reinterpret_cast<bf16_t*>(to), k);
                       continue;
                     }
                     auto* values = reinterpret_cast<float*>(to);
                     for (int64_t l = 0; l < k; ++l) {
                       values[l] = FromBf16(ToBf16(from[l]));
                     }
                   }
                 });
}

void DenseProduct::RunTile(int64_t row, int64_t rows, int64_t panel,
                           int64_t panels, int thread) {
  const int64_t k = p_.b.cols;
  const int64_t cols = panels * kQuantizedPanel;
  const int64_t tile_rows = std::min(rows, kTileRows);
  // Both parts are multiples of 64 bytes: cols is one of 64.
  char* tile_b = context_.thread_scratch[thread].Reserve<char>(
      k * cols * SizeOf(dtype_) +
      tile_rows * cols * static_cast<int64_t>(sizeof(float)));
  auto* sums = reinterpret_cast<float*>(tile_b + k * cols * SizeOf(dtype_));
  for (int64_t i = 0; i < panels; ++i) {
    char* to = tile_b + i * kQuantizedPanel * SizeOf(dtype_);
    if (dtype_ == DType::kBF16) {
      HWY_DYNAMIC_DISPATCH(FillPanelBf16)
      (p_.b, panel + i, reinterpret_cast<bf16_t*>(to), cols);
    } else {
      HWY_DYNAMIC_DISPATCH(FillPanelF32)
      (p_.b, panel + i, reinterpret_cast<float*>(to), cols);
    }
  }
  const int64_t col = panel * kQuantizedPanel;
  const int64_t valid = std::min(cols, p_.b.rows - col);
  for (int64_t r = 0; r < rows; r += kTileRows) {
    const int64_t count = std::min(kTileRows, rows - r);
    const GemmShape shape{.m = count, .n = cols, .k = k, .dtype = dtype_};
    context_.gemm.Run(shape, dense_a_ + r * k * SizeOf(dtype_), tile_b, sums,
                      thread);
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(At(p_.out, row + r + i) + col, sums + i * cols,
                  valid * sizeof(float));
    }
  }
}

}  // namespace

void MultiplyDense(const QuantizedMatMulParams& p, CpuContext& context) {
  DenseProduct(p, context).Run();
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
