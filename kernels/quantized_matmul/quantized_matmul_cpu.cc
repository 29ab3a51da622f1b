// Products with packed matrices. A task takes whole panels, so that no output
// element is shared and each is one chain of operations.
//
// f32 products: by bytes where the processor has them (byte_product.h), else
// levels become f32 in registers, 64 rows of b a pass, and are used for up to
// kMaxRows rows of a. bf16 products: tiles of b become dense bf16 and go to the
// GemmEngine.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"
#include "kernels/quantized_matmul/byte_product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/quantized_matmul/quantized_matmul_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

using U32Tag = hn::RebindToUnsigned<F32Tag>;
using U32Vec = hn::Vec<U32Tag>;

constexpr auto kInt8 = QuantizedFormat::kInt8;
constexpr auto kInt4 = QuantizedFormat::kInt4;

// Accumulators must fit the registers: 32 of them with AVX-512, else 16.
constexpr int kVectors = HWY_TARGET == HWY_AVX3 ? 4 : 2;
constexpr int kMaxRows = HWY_TARGET == HWY_AVX3 ? 4 : 2;
// Rows of a whose sums are held at once.
constexpr int64_t kRowChunk = 16;
// How far ahead of its use memory is asked for, a block at a time: in small
// portions between the multiplications it comes a fifth slower, and left to the
// processor's own prefetching at half of the bandwidth.
constexpr int64_t kPrefetchBytes = 8192;

HWY_ALIGN constexpr float kLevels[16] = {
    kInt4Levels[0],  kInt4Levels[1],  kInt4Levels[2],  kInt4Levels[3],
    kInt4Levels[4],  kInt4Levels[5],  kInt4Levels[6],  kInt4Levels[7],
    kInt4Levels[8],  kInt4Levels[9],  kInt4Levels[10], kInt4Levels[11],
    kInt4Levels[12], kInt4Levels[13], kInt4Levels[14], kInt4Levels[15]};

// Levels of the codes in the low 4 bits of each lane; higher bits may be set.
#if HWY_TARGET == HWY_AVX3
class LevelTable {
 public:
  LevelTable() : levels_(hn::Load(F32Tag(), kLevels)) {}
  // The instruction itself takes the low bits, which the wrapper asserts.
  HWY_INLINE F32Vec operator()(U32Vec codes) const {
    return F32Vec{_mm512_permutexvar_ps(codes.raw, levels_.raw)};
  }

 private:
  F32Vec levels_;
};
#elif HWY_TARGET == HWY_AVX2
class LevelTable {
 public:
  LevelTable()
      : low_(hn::Load(F32Tag(), kLevels)),
        high_(hn::Load(F32Tag(), kLevels + 8)) {}
  HWY_INLINE F32Vec operator()(U32Vec codes) const {
    const F32Tag d;
    const auto index =
        hn::IndicesFromVec(d, hn::And(codes, hn::Set(U32Tag(), 7u)));
    const F32Vec is_high = hn::BitCast(d, hn::ShiftLeft<28>(codes));
    return hn::IfNegativeThenElse(is_high, hn::TableLookupLanes(high_, index),
                                  hn::TableLookupLanes(low_, index));
  }

 private:
  F32Vec low_, high_;
};
#else
class LevelTable {
 public:
  HWY_INLINE F32Vec operator()(U32Vec codes) const {
    const F32Tag d;
    const hn::RebindToSigned<F32Tag> di;
    const auto index = hn::And(codes, hn::Set(U32Tag(), 15u));
    return hn::GatherIndex(d, kLevels, hn::BitCast(di, index));
  }
};
#endif

// Levels of the codes in the low bits of each lane; higher bits may be set.
template <QuantizedFormat kFormat>
struct LevelsOf : LevelTable {};
template <>
struct LevelsOf<kInt8> {
  HWY_INLINE F32Vec operator()(U32Vec codes) const {
    const hn::RebindToSigned<F32Tag> di;
    return hn::ConvertTo(F32Tag(), hn::ShiftRight<24>(hn::BitCast(
                                       di, hn::ShiftLeft<24>(codes))));
  }
};

// Calls use(c, levels) for each column c in [0, count) of kVectors vectors of
// rows, levels of kBlocks neighbouring blocks. `codes` points at the first row.
template <QuantizedFormat kFormat, int kBlocks, class Use>
HWY_INLINE void ForEachColumn(const char* codes, int64_t count, Use use) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  constexpr int64_t kRecord = QuantizedRecordBytes(kFormat);
  // Columns that share a word.
  constexpr int64_t kShared = kFormat == kInt8 ? 4 : 8;
  const U32Tag du;
  const LevelsOf<kFormat> levels_of;
  for (int64_t g = 0; g < count; g += kShared) {
    U32Vec words[kBlocks][kVectors];
    for (int b = 0; b < kBlocks; ++b) {
      const auto* row = reinterpret_cast<const uint32_t*>(codes + b * kRecord) +
                        g / kShared * kQuantizedPanel;
      for (int v = 0; v < kVectors; ++v) {
        words[b][v] = hn::LoadU(du, row + v * lanes);
      }
    }
    const int64_t columns = HWY_MIN(kShared, count - g);
    for (int64_t j = 0; j < columns; ++j) {
      F32Vec levels[kBlocks][kVectors];
      for (int b = 0; b < kBlocks; ++b) {
        for (int v = 0; v < kVectors; ++v) {
          levels[b][v] = levels_of(words[b][v]);
          words[b][v] = hn::ShiftRight<32 / kShared>(words[b][v]);
        }
      }
      use(g + j, levels);
    }
  }
}

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

HWY_EXPORT(MultiplyPanels);
HWY_EXPORT(FillPanelBf16);
HWY_EXPORT(FillPanelF32);

namespace {

// Below this many bytes of b waking the other threads costs more than it saves.
constexpr int64_t kSerialBytes = int64_t{64} << 10;
// Rows of a that are converted at a time, for which b is made dense once.
constexpr int64_t kDenseRows = 1024;
// Rows of a multiplied with a tile of b at a time: bounds its output.
constexpr int64_t kTileRows = 256;
// A tile of b stays in a core's cache.
constexpr int64_t kTileBytes = int64_t{512} << 10;
constexpr int64_t kMostTilePanels = 4;

// Panels a task, so that a slow core can do fewer tasks.
int64_t PanelsPerTask(int64_t panels, int64_t threads) {
  constexpr int64_t kTasksPerThread = 16;
  return std::max<int64_t>(1, panels / (threads * kTasksPerThread));
}

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
    ParallelBlocks(context.pool, panels, step,
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

void QuantizedMatMul(const QuantizedMatMulParams& p, CpuContext& context) {
  if (p.a.shape[0] == 0 || p.b.rows == 0) return;
  if (p.b.cols == 0) {
    for (int64_t i = 0; i < p.out.shape[0]; ++i) {
      std::memset(At(p.out, i), 0, p.out.shape[1] * sizeof(float));
    }
  } else if (p.products == DType::kBF16) {
    DenseProduct(p, context).Run();
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
