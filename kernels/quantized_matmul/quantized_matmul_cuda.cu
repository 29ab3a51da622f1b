// Products with packed matrices. f32: a block owns half a panel, 32 rows of b;
// its warps sum different blocks of 32 terms, and the sums then enter the
// results in ascending order, as the contract has it. bf16: panels of b become
// dense and go to MatMul.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"
#include "kernels/quantized_matmul/packed_device.h"

namespace sinklora::kernels::cuda {
namespace {

constexpr int kPanel = static_cast<int>(kQuantizedPanel);
constexpr int kTerms = static_cast<int>(kQuantizedBlock);
constexpr int kHalf = kPanel / 2;          // rows of b a block owns
constexpr int kLaneRows = 4;               // of those, a lane's
constexpr int kLanes = kHalf / kLaneRows;  // lanes that share a block of terms
constexpr int kGroup = kBlockThreads / kLanes;  // blocks of terms at a time
// Dense weights of bf16 products held at once.
constexpr int64_t kDenseBytes = int64_t{64} << 20;

// The levels of 4 rows and 8 columns: level[j][i] of column j and row i.
struct LevelsOfInt8 {
  SINKLORA_DEVICE static void Load(const char* codes, int first_row, int eight,
                                   const float*, float level[8][kLaneRows]) {
    SINKLORA_UNROLL
    for (int half = 0; half < 2; ++half) {
      const auto* words = reinterpret_cast<const uint32_t*>(codes) +
                          (2 * eight + half) * kPanel + first_row;
      SINKLORA_UNROLL
      for (int i = 0; i < kLaneRows; ++i) {
        const uint32_t word = words[i];
        SINKLORA_UNROLL
        for (int j = 0; j < 4; ++j) {
          level[4 * half + j][i] =
              static_cast<float>(static_cast<int8_t>(word >> (8 * j) & 0xffu));
        }
      }
    }
  }
};
struct LevelsOfInt4 {
  SINKLORA_DEVICE static void Load(const char* codes, int first_row, int eight,
                                   const float* table,
                                   float level[8][kLaneRows]) {
    const auto* words =
        reinterpret_cast<const uint32_t*>(codes) + eight * kPanel + first_row;
    SINKLORA_UNROLL
    for (int i = 0; i < kLaneRows; ++i) {
      const uint32_t word = words[i];
      SINKLORA_UNROLL
      for (int j = 0; j < 8; ++j) level[j][i] = table[word >> (4 * j) & 15u];
    }
  }
};

struct Product {
  ConstRows a;
  int64_t m;
  PackedMatrix b;
  int64_t n, k;
  Rows out;
};

// sums[r][i] of the terms of one block: rows r of a, rows first_row + i of b.
template <typename Levels, int kRows>
SINKLORA_DEVICE void SumBlock(const Product& p, int64_t first_a, int64_t block,
                              const char* record, int first_row,
                              const float* table,
                              float sums[kRows][kLaneRows]) {
  SINKLORA_UNROLL
  for (int eight = 0; eight < kTerms / 8; ++eight) {
    float level[8][kLaneRows];
    Levels::Load(record + kQuantizedScaleBytes, first_row, eight, table, level);
    SINKLORA_UNROLL
    for (int j = 0; j < 8; ++j) {
      const int64_t col = block * kTerms + 8 * eight + j;
      SINKLORA_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const bool inside = col < p.k && first_a + r < p.m;
        const float x = inside ? p.a[first_a + r][col] : 0.0f;
        SINKLORA_UNROLL
        for (int i = 0; i < kLaneRows; ++i) {
          // Beyond k nothing is added, so that a row ends as its terms do.
          if (inside) sums[r][i] = fmaf(x, level[j][i], sums[r][i]);
        }
      }
    }
  }
}

template <typename Levels, int kRows>
SINKLORA_GLOBAL void SINKLORA_LAUNCH_BOUNDS(kBlockThreads, 2)
    PackedProductKernel(Product p) {
  SINKLORA_SHARED(float[kGroup][kRows][kHalf], sums);
  SINKLORA_SHARED(float[kGroup][kHalf], scales);
  SINKLORA_SHARED(float[16], table);
  if (threadIdx.x < 16) table[threadIdx.x] = p.b.levels[threadIdx.x];
  const int64_t panel = blockIdx.x / 2;
  const int half = static_cast<int>(blockIdx.x % 2) * kHalf;
  const int64_t first_a = blockIdx.y * static_cast<int64_t>(kRows);
  const int slot = threadIdx.x / kLanes;
  const int lane_row = static_cast<int>(threadIdx.x % kLanes) * kLaneRows;
  // The thread's own result: row of a, row of b.
  const int own_a = threadIdx.x / kHalf;
  const int own_b = threadIdx.x % kHalf;
  float total = 0.0f;
  SyncThreads();
  for (int64_t begin = 0; begin < p.b.blocks; begin += kGroup) {
    const int64_t block = begin + slot;
    if (block < p.b.blocks) {
      const char* record = p.b.Record(panel, block);
      float sum[kRows][kLaneRows] = {};
      SumBlock<Levels, kRows>(p, first_a, block, record, half + lane_row, table,
                              sum);
      SINKLORA_UNROLL
      for (int i = 0; i < kLaneRows; ++i) {
        SINKLORA_UNROLL
        for (int r = 0; r < kRows; ++r) {
          sums[slot][r][lane_row + i] = sum[r][i];
        }
        scales[slot][lane_row + i] = FloatFromBf16(
            reinterpret_cast<const bf16_t*>(record)[half + lane_row + i]);
      }
    }
    SyncThreads();
    if (own_a < kRows) {
      const int64_t left = p.b.blocks - begin;
      const int count = left < kGroup ? static_cast<int>(left) : kGroup;
      for (int i = 0; i < count; ++i) {
        total = fmaf(scales[i][own_b], sums[i][own_a][own_b], total);
      }
    }
    SyncThreads();
  }
  const int64_t row = first_a + own_a;
  const int64_t column = panel * kPanel + half + own_b;
  if (own_a < kRows && row < p.m && column < p.n) p.out[row][column] = total;
}

template <typename Levels>
Status PackedProduct(const Product& p, CudaContext& context) {
  const auto halves = static_cast<unsigned>(2 * QuantizedPanels(p.n));
  if (p.m == 1) {
    return Launch("quantized_matmul", PackedProductKernel<Levels, 1>,
                  {.grid = dim3(halves), .block = dim3(kBlockThreads)},
                  context.stream(), p);
  }
  constexpr int kRows = 4;
  return Launch(
      "quantized_matmul", PackedProductKernel<Levels, kRows>,
      {.grid = dim3(halves, static_cast<unsigned>(CeilDiv(p.m, kRows))),
       .block = dim3(kBlockThreads)},
      context.stream(), p);
}

// dense[row - first][col] of the rows from `first` on, rounded to bf16.
SINKLORA_GLOBAL void UnpackKernel(PackedMatrix m, int64_t first, int64_t cols,
                                  bf16_t* dense, int64_t dense_row) {
  const int64_t row = blockIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.x;
  for (int64_t c = blockIdx.y * blockDim.x + threadIdx.x; c < cols; c += step) {
    dense[row * dense_row + c] =
        Bf16FromFloat(m.Scale(first + row, c) * m.Level(first + row, c));
  }
}

Status ToBf16(const ConstTensorView& a, CudaContext& context, TensorView* out) {
  // Rows as MatMul wants them, so that it copies no more.
  constexpr int64_t kUnit = Gemm::kAlignmentBytes / sizeof(bf16_t);
  const int64_t row = CeilDiv(a.shape[1], kUnit) * kUnit;
  bf16_t* data = nullptr;
  Status status = context.Scratch(a.shape[0] * row, &data);
  if (!status.ok()) return status;
  *out = TensorView(data, DType::kBF16, {a.shape[0], a.shape[1]});
  out->stride[0] = row;
  return OkStatus();
}

SINKLORA_GLOBAL void RoundKernel(ConstRows x, bf16_t* out, int64_t row,
                                 int64_t cols) {
  const int64_t i = blockIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.x;
  for (int64_t c = blockIdx.y * blockDim.x + threadIdx.x; c < cols; c += step) {
    out[i * row + c] = Bf16FromFloat(x[i][c]);
  }
}

LaunchShape RowShape(int64_t rows, int64_t columns) {
  return {.grid = dim3(static_cast<unsigned>(rows),
                       static_cast<unsigned>(
                           CeilDiv(columns, int64_t{4} * kBlockThreads))),
          .block = dim3(kBlockThreads)};
}

Status DenseProduct(const QuantizedMatMulParams& p, CudaContext& context) {
  const int64_t n = p.b.rows, k = p.b.cols;
  TensorView a;
  Status status = ToBf16(p.a, context, &a);
  if (status.ok()) {
    status =
        Launch("quantized_matmul_round", RoundKernel, RowShape(p.a.shape[0], k),
               context.stream(), RowsOf(p.a), a.as<bf16_t>(), a.stride[0], k);
  }
  constexpr int64_t kUnit = Gemm::kAlignmentBytes / sizeof(bf16_t);
  const int64_t row = CeilDiv(k, kUnit) * kUnit;
  const int64_t fitting =
      kDenseBytes / (row * static_cast<int64_t>(sizeof(bf16_t)));
  const int64_t chunk =
      std::min(n, std::max<int64_t>(1, fitting / kPanel) * kPanel);
  bf16_t* dense = nullptr;
  if (status.ok()) status = context.Scratch(chunk * row, &dense);
  for (int64_t first = 0; status.ok() && first < n; first += chunk) {
    const int64_t count = std::min(chunk, n - first);
    status = Launch("quantized_matmul_unpack", UnpackKernel, RowShape(count, k),
                    context.stream(), PackedOf(p.b), first, k, dense, row);
    if (!status.ok()) return status;
    TensorView b(dense, DType::kBF16, {count, k});
    b.stride[0] = row;
    TensorView out = p.out;
    out.data = p.out.as<float>() + first;
    out.shape[1] = count;
    status =
        MatMulCuda({.a = a, .b = b, .out = out, .transpose_b = true}, context);
  }
  return status;
}

}  // namespace

Status QuantizedMatMulCuda(const QuantizedMatMulParams& p,
                           CudaContext& context) {
  if (p.out.num_elements() == 0) return OkStatus();
  if (p.b.cols == 0) {
    return MatMulCuda(
        {.a = p.a,
         .b = ConstTensorView(p.a.data, DType::kF32, {p.b.rows, 0}),
         .out = p.out,
         .transpose_b = true},
        context);
  }
  if (p.products == DType::kBF16) return DenseProduct(p, context);
  const Product product{RowsOf(p.a), p.a.shape[0], PackedOf(p.b),
                        p.b.rows,    p.b.cols,     RowsOf(p.out)};
  return p.b.format == QuantizedFormat::kInt8
             ? PackedProduct<LevelsOfInt8>(product, context)
             : PackedProduct<LevelsOfInt4>(product, context);
}

}  // namespace sinklora::kernels::cuda
