// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/slim_matmul.h"

#include <algorithm>
#include <utility>

#include "kernels/cpu/cpu_isa.h"
#include "kernels/matmul/few_rows_gemm.h"
#include "kernels/matmul/slim_gemm.h"

namespace sinklora::kernels::cpu {
namespace {

// Multiply-adds below which waking a thread costs more than it saves, and the
// cost of an element of the large operand, in the same unit.
constexpr int64_t kTaskWork = int64_t{1} << 19;
constexpr int64_t kElementWork = 16;
// Rows of a task are a multiple of every register block.
constexpr int64_t kRowStep = 6;
constexpr int64_t kColumnStep = 64;
// Up to here DotGemm beats panels that are padded to 64 columns.
constexpr int64_t kFewColumns = 24;
constexpr int64_t kMostColumns = 256;
// A gradient's sum over tokens restarts after these, which bounds its error.
constexpr int64_t kOuterChunk = 512;
constexpr int64_t kTransposeBlock = 16;

// Items of a task for `extent` of them that cost `work` each: some tasks a
// thread, so that a slow core can do fewer, but none too small.
int64_t TaskExtent(int64_t extent, int64_t work, int64_t step, int threads) {
  if (threads == 1) return extent;
  const int64_t even = (extent + 4 * threads - 1) / (4 * threads);
  const int64_t least = kTaskWork / std::max<int64_t>(1, work) + 1;
  return (std::max(even, least) + step - 1) / step * step;
}

// to[cols][rows] = the transposed of x[rows][cols].
void Transpose(const ConstTensorView& x, float* to, CpuContext& context) {
  const int64_t rows = x.shape[0], cols = x.shape[1];
  const float* from = x.as<float>();
  const int64_t block = std::max<int64_t>(
      kTransposeBlock, TaskExtent(rows, cols * kElementWork, kTransposeBlock,
                                  context.pool.num_threads()));
  ParallelBlocks(context.pool, rows, block,
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t i0 = begin; i0 < end; i0 += kTransposeBlock) {
                     const int64_t i1 = std::min(end, i0 + kTransposeBlock);
                     for (int64_t j = 0; j < cols; ++j) {
                       for (int64_t i = i0; i < i1; ++i) {
                         to[j * rows + i] = from[i * x.stride[0] + j];
                       }
                     }
                   }
                 });
}

class SlimProduct {
 public:
  SlimProduct(const MatMulParams& p, CpuContext& context)
      : p_(p), context_(context), k_(p.a.shape[p.transpose_a ? 0 : 1]) {
    tile_ = {.a = p.a.as<float>(),
             .a_row = p.a.stride[0],
             .b = p.b.as<float>(),
             .b_row = p.b.stride[0],
             .out = p.out.as<float>(),
             .out_row = p.out.stride[0],
             .m = p.out.shape[0],
             .n = p.out.shape[1],
             .k = k_,
             .alpha = p.alpha,
             .accumulate = p.beta != 0.0f};
  }

  bool Run();

 private:
  // Gives tile_ the other layout of b.
  void TransposeB();
  void RunRows(void (*gemm)(const SlimTile&));
  void RunColumns();
  // Whether FewRowsGemm can have it: the same chain of multiply-adds, and b as
  // it is, where the other layout costs as much as the product.
  bool IsFewRows() const;
  void RunFewRows();
  // The sums of a small operand's columns with those of a large one.
  void RunOuter(int64_t chunk);
  void StoreOuter(const float* sums, int64_t begin, int64_t count) const;

  const MatMulParams& p_;
  CpuContext& context_;
  const int64_t k_;
  SlimTile tile_;
};

void SlimProduct::TransposeB() {
  const int64_t rows = p_.b.shape[0];
  float* to = context_.matmul_scratch.Reserve<float>(rows * p_.b.shape[1]);
  Transpose(p_.b, to, context_);
  tile_.b = to;
  tile_.b_row = rows;
}

void SlimProduct::RunRows(void (*gemm)(const SlimTile&)) {
  const int64_t work = tile_.n * k_ + kElementWork * (tile_.n + k_);
  const int64_t rows =
      TaskExtent(tile_.m, work, kRowStep, context_.pool.num_threads());
  ParallelBlocks(context_.pool, tile_.m, rows,
                 [&](int64_t begin, int64_t end, int) {
                   SlimTile part = tile_;
                   part.a += begin * part.a_row;
                   part.out += begin * part.out_row;
                   part.m = end - begin;
                   gemm(part);
                 });
}

void SlimProduct::RunColumns() {
  const int64_t work = (tile_.m + kElementWork) * k_;
  const int64_t columns =
      TaskExtent(tile_.n, work, kColumnStep, context_.pool.num_threads());
  ParallelBlocks(context_.pool, tile_.n, columns,
                 [&](int64_t begin, int64_t end, int) {
                   SlimTile part = tile_;
                   part.b += begin;
                   part.out += begin;
                   part.n = end - begin;
                   ChainGemm(part);
                 });
}

bool SlimProduct::IsFewRows() const {
#ifdef __x86_64__
  return p_.transpose_b && tile_.m <= kFewRows &&
         (tile_.m == 1 || tile_.a_row == k_) &&
         (tile_.n == 1 || tile_.b_row == k_) &&
         ActiveCpuIsa() >= CpuIsa::kAvx512;
#else
  return false;
#endif
}

void SlimProduct::RunFewRows() {
#ifdef __x86_64__
  const GemmShape shape{
      .m = tile_.m, .n = tile_.n, .k = k_, .transpose_b = true};
  float* sums = context_.matmul_scratch.Reserve<float>(shape.m * shape.n);
  FewRowsGemm(shape, k_, tile_.a, tile_.b, sums);
  for (int64_t i = 0; i < shape.m; ++i) {
    StoreSums(sums + i * shape.n, tile_.alpha, tile_.accumulate,
              tile_.out + i * tile_.out_row, shape.n);
  }
#endif
}

void SlimProduct::StoreOuter(const float* sums, int64_t begin,
                             int64_t count) const {
  if (tile_.m <= kSlim && tile_.n > kSlim) {
    for (int64_t i = 0; i < tile_.m; ++i) {
      StoreSums(sums + i * count, tile_.alpha, tile_.accumulate,
                tile_.out + i * tile_.out_row + begin, count);
    }
    return;
  }
  float row[kSlim];
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < tile_.n; ++j) row[j] = sums[j * count + i];
    StoreSums(row, tile_.alpha, tile_.accumulate,
              tile_.out + (begin + i) * tile_.out_row, tile_.n);
  }
}

void SlimProduct::RunOuter(int64_t chunk) {
  SlimTile outer = tile_;
  if (tile_.n <= kSlim) {
    std::swap(outer.a, outer.b);
    std::swap(outer.a_row, outer.b_row);
    std::swap(outer.m, outer.n);
  }
  const int64_t work = (outer.m + kElementWork) * k_;
  const int64_t columns = std::min(
      kMostColumns,
      TaskExtent(outer.n, work, kColumnStep, context_.pool.num_threads()));
  ParallelBlocks(context_.pool, outer.n, columns,
                 [&](int64_t begin, int64_t end, int thread) {
                   SlimTile part = outer;
                   part.b += begin;
                   part.n = end - begin;
                   const int64_t size = part.m * part.n;
                   float* sums =
                       context_.thread_scratch[thread].Reserve<float>(2 * size);
                   OuterGemm(part, chunk, sums, sums + size);
                   StoreOuter(sums, begin, part.n);
                 });
}

bool SlimProduct::Run() {
  if (p_.transpose_a) {
    if (p_.transpose_b) return false;
    if (tile_.n <= kSlim) {
      RunOuter(kOuterChunk);
      return true;
    }
    // Others of more rows go to the engine, so the bits must be its own.
    if (tile_.m > kSlim || tile_.alpha != 1.0f) return false;
    const int64_t chunk = context_.gemm.SumChunk(DType::kF32, k_);
    if (chunk == 0) return false;
    RunOuter(chunk);
    return true;
  }
  if (k_ <= kSlim) {
    if (IsFewRows()) {
      RunFewRows();
      return true;
    }
    if (p_.transpose_b) TransposeB();
    if (tile_.m < 2 * kRowStep * context_.pool.num_threads()) {
      RunColumns();
    } else {
      RunRows(ChainGemm);
    }
    return true;
  }
  // With AVX-512 the engine is as fast or faster; without, it pads columns.
  if (tile_.n > kFewColumns || ActiveCpuIsa() >= CpuIsa::kAvx512) return false;
  if (!p_.transpose_b) TransposeB();
  RunRows(DotGemm);
  return true;
}

}  // namespace

bool SlimMatMul(const MatMulParams& p, CpuContext& context) {
  for (DType dtype : {p.a.dtype, p.b.dtype, p.out.dtype}) {
    if (dtype != DType::kF32) return false;
  }
  return SlimProduct(p, context).Run();
}

}  // namespace sinklora::kernels::cpu
