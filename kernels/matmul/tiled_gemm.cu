// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device_util.h"
#include "kernels/cuda/launch.h"
#include "kernels/matmul/tiled_gemm.h"

namespace sinklora::kernels::cuda {
namespace {

constexpr int kTile = 64;      // rows and columns of the result a block owns
constexpr int kDepth = 16;     // terms held in shared memory
constexpr int kPerThread = 4;  // rows and columns of the result a thread owns
constexpr int kSide = kTile / kPerThread;  // threads along either

struct Operand {
  const void* data;
  int64_t outer, inner;  // strides along the result's dimension and along k
  int64_t size;          // of the result's dimension
};

template <typename T>
SINKLORA_DEVICE float Load(const T* x) {
  return *x;
}
template <>
SINKLORA_DEVICE float Load<bf16_t>(const bf16_t* x) {
  return FloatFromBf16(*x);
}

// tile[depth][position] of `x`, zeros beyond it. Threads next to each other
// read along the unit stride.
template <typename T>
SINKLORA_DEVICE void LoadTile(const Operand& x, int64_t begin, int64_t k_begin,
                              int64_t k, float (*tile)[kTile + 1]) {
  for (int at = threadIdx.x; at < kTile * kDepth; at += kSide * kSide) {
    const bool deep = x.inner == 1;
    const int l = deep ? at % kDepth : at / kTile;
    const int i = deep ? at / kDepth : at % kTile;
    const bool inside = begin + i < x.size && k_begin + l < k;
    tile[l][i] = inside ? Load(static_cast<const T*>(x.data) +
                               (begin + i) * x.outer + (k_begin + l) * x.inner)
                        : 0.0f;
  }
}

struct Result {
  void* data;
  int64_t row;
  bool bf16;
  float alpha, beta;

  SINKLORA_DEVICE void Store(int64_t i, int64_t j, float sum) const {
    const int64_t at = i * row + j;
    float value = alpha * sum;
    if (bf16) {
      auto* out = static_cast<bf16_t*>(data);
      if (beta != 0.0f) value = fmaf(beta, FloatFromBf16(out[at]), value);
      out[at] = Bf16FromFloat(value);
    } else {
      auto* out = static_cast<float*>(data);
      if (beta != 0.0f) value = fmaf(beta, out[at], value);
      out[at] = value;
    }
  }
};

template <typename T>
SINKLORA_GLOBAL void TiledKernel(Operand a, Operand b, int64_t k,
                                 Result result) {
  SINKLORA_SHARED(float[kDepth][kTile + 1], tile_a);
  SINKLORA_SHARED(float[kDepth][kTile + 1], tile_b);
  const int64_t row = blockIdx.x * static_cast<int64_t>(kTile);
  const int64_t column = blockIdx.y * static_cast<int64_t>(kTile);
  const int i0 = threadIdx.x / kSide;
  const int j0 = threadIdx.x % kSide;
  float sum[kPerThread][kPerThread] = {};
  for (int64_t k_begin = 0; k_begin < k; k_begin += kDepth) {
    LoadTile<T>(a, row, k_begin, k, tile_a);
    LoadTile<T>(b, column, k_begin, k, tile_b);
    SyncThreads();
    // Terms beyond k would add 0, or a NaN that was not asked for.
    const int depth =
        k - k_begin < kDepth ? static_cast<int>(k - k_begin) : kDepth;
    for (int l = 0; l < depth; ++l) {
      SINKLORA_UNROLL
      for (int i = 0; i < kPerThread; ++i) {
        SINKLORA_UNROLL
        for (int j = 0; j < kPerThread; ++j) {
          sum[i][j] = fmaf(tile_a[l][i0 + i * kSide], tile_b[l][j0 + j * kSide],
                           sum[i][j]);
        }
      }
    }
    SyncThreads();
  }
  SINKLORA_UNROLL
  for (int i = 0; i < kPerThread; ++i) {
    SINKLORA_UNROLL
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t r = row + i0 + i * kSide;
      const int64_t c = column + j0 + j * kSide;
      if (r < a.size && c < b.size) result.Store(r, c, sum[i][j]);
    }
  }
}

}  // namespace

Status TiledGemm(const GemmCall& call, Stream stream) {
  const Operand a{call.a, call.transpose_a ? 1 : call.row_a,
                  call.transpose_a ? call.row_a : 1, call.m};
  const Operand b{call.b, call.transpose_b ? call.row_b : 1,
                  call.transpose_b ? 1 : call.row_b, call.n};
  const Result result{call.out, call.row_out, call.result == DType::kBF16,
                      call.alpha, call.beta};
  // Rows of blocks may be many, columns of blocks at most 65535.
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(CeilDiv(call.m, kTile)),
                   static_cast<unsigned>(CeilDiv(call.n, kTile))),
      .block = dim3(kSide * kSide)};
  if (call.operands == DType::kBF16) {
    return Launch("matmul", TiledKernel<bf16_t>, shape, stream, a, b, call.k,
                  result);
  }
  return Launch("matmul", TiledKernel<float>, shape, stream, a, b, call.k,
                result);
}

}  // namespace sinklora::kernels::cuda
