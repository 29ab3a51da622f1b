// Cuts a product into row tiles (tall a) or column tiles (short a, as in
// decode), makes each operand dense and of one dtype, and hands the tiles to
// the GemmEngine. The engine's bits do not depend on the tiling, so the tiling
// may follow the number of threads. Products with one small extent have kernels
// of their own (slim_matmul.h).
//
// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"
#include "kernels/matmul/slim_matmul.h"

namespace sinklora::kernels::cpu {
namespace {

// Below this many multiply-adds (with memory traffic counted in) waking the
// other threads costs more than it saves.
constexpr int64_t kSerialWork = int64_t{1} << 20;
// Traffic of one element of b in units of multiply-adds.
constexpr int64_t kElementWork = 16;
constexpr int64_t kTransposeBlock = 16;
// Rows for which it pays to rearrange b first, and the most memory for that.
constexpr int64_t kTiledRows = 64;
constexpr int64_t kMaxTilesBytes = int64_t{128} << 20;

// A matrix operand: op(x), rows x cols.
struct Operand {
  ConstTensorView view;
  bool transpose;
  bool round_to_bf16;  // the other operand is bf16

  int64_t rows() const { return view.shape[transpose ? 1 : 0]; }
  int64_t cols() const { return view.shape[transpose ? 0 : 1]; }
  const char* Row(int64_t stored_row, int64_t stored_col) const {
    return view.as<char>() +
           (stored_row * view.stride[0] + stored_col) * SizeOf(view.dtype);
  }
  // Elements are what is to be multiplied, as they are stored.
  bool Holds(DType dtype) const {
    return view.dtype == dtype && !(round_to_bf16 && dtype == DType::kF32);
  }
  // And stored rows follow each other without a gap.
  bool DenseAs(DType dtype) const {
    return Holds(dtype) &&
           (view.shape[0] <= 1 || view.stride[0] == view.shape[1]);
  }
};

// Copies n elements of a stored row, rounding and converting to `dtype`.
void CopyRow(const Operand& x, const char* from, char* to, DType dtype,
             int64_t n) {
  CopyElements(from, x.view.dtype, to, dtype, n);
  if (!x.round_to_bf16 || x.view.dtype != DType::kF32 || dtype != DType::kF32) {
    return;
  }
  float* values = reinterpret_cast<float*>(to);
  for (int64_t i = 0; i < n; ++i) values[i] = FromBf16(ToBf16(values[i]));
}

template <typename T>
void TransposeTile(const T* from, int64_t from_row, T* to, int64_t to_row,
                   int64_t rows, int64_t cols) {
  for (int64_t i0 = 0; i0 < rows; i0 += kTransposeBlock) {
    const int64_t i1 = std::min(rows, i0 + kTransposeBlock);
    for (int64_t j = 0; j < cols; ++j) {
      for (int64_t i = i0; i < i1; ++i) {
        to[j * to_row + i] = from[i * from_row + j];
      }
    }
  }
}

// Stored rows [begin, begin + count) x cols [col, col + cols), dense in `to`.
void PackStored(const Operand& x, int64_t begin, int64_t count, int64_t col,
                int64_t cols, DType dtype, char* to) {
  for (int64_t i = 0; i < count; ++i) {
    CopyRow(x, x.Row(begin + i, col), to + i * cols * SizeOf(dtype), dtype,
            cols);
  }
}

// Rows [begin, begin + count) of op(x) with x stored transposed, dense in `to`.
// `line` holds one block of stored rows.
void PackTransposed(const Operand& x, int64_t begin, int64_t count, DType dtype,
                    char* line, char* to) {
  const int64_t depth = x.cols();
  for (int64_t l = 0; l < depth; l += kTransposeBlock) {
    const int64_t lines = std::min(kTransposeBlock, depth - l);
    PackStored(x, l, lines, begin, count, dtype, line);
    if (dtype == DType::kBF16) {
      TransposeTile(reinterpret_cast<const bf16_t*>(line), count,
                    reinterpret_cast<bf16_t*>(to) + l, depth, lines, count);
    } else {
      TransposeTile(reinterpret_cast<const float*>(line), count,
                    reinterpret_cast<float*>(to) + l, depth, lines, count);
    }
  }
}

int64_t Aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

class Product {
 public:
  Product(const MatMulParams& p, CpuContext& context);
  void Run();

 private:
  void RunTile(int64_t row, int64_t rows, int64_t col, int64_t cols,
               int thread);
  const void* TileOfA(int64_t row, int64_t rows, char** scratch,
                      DType* dtype) const;
  const void* TileOfB(int64_t col, int64_t cols, char** scratch) const;
  void StoreTile(const char* tile, DType tile_dtype, int64_t row, int64_t rows,
                 int64_t col, int64_t cols) const;
  void PackB(bool in_tiles);
  void CopyB(char* to);
  void TileB(char* tiles);
  int64_t ScratchBytes(int64_t rows, int64_t cols) const;

  const MatMulParams& p_;
  CpuContext& context_;
  Operand a_;
  Operand b_;
  const int64_t m_, n_, k_;
  DType dtype_;                    // operands as multiplied
  const void* dense_b_ = nullptr;  // whole b
  bool b_in_tiles_ = false;        // and so is dense_b_
};

Product::Product(const MatMulParams& p, CpuContext& context)
    : p_(p),
      context_(context),
      a_{p.a, p.transpose_a, p.a.dtype != p.b.dtype},
      b_{p.b, p.transpose_b, p.a.dtype != p.b.dtype},
      m_(a_.rows()),
      n_(b_.cols()),
      k_(a_.cols()) {
  const bool bf16 = p.a.dtype == DType::kBF16 || p.b.dtype == DType::kBF16;
  dtype_ = bf16 && context.gemm.has_bf16() ? DType::kBF16 : DType::kF32;
}

// Gives the tasks of this product one dense copy of b in the dtype multiplied,
// in tiles or not.
void Product::PackB(bool in_tiles) {
  const bool copies = !b_.DenseAs(dtype_);
  const int64_t copy_bytes = copies ? Aligned(n_ * k_ * SizeOf(dtype_)) : 0;
  const int64_t tiles_bytes = in_tiles ? context_.gemm.TilesBytes(n_, k_) : 0;
  dense_b_ = p_.b.data;
  if (copy_bytes + tiles_bytes == 0) return;
  char* to = context_.matmul_scratch.Reserve<char>(tiles_bytes + copy_bytes);
  if (copies) CopyB(to + tiles_bytes);
  if (in_tiles) TileB(to);
}

// A dense copy of b, which dense_b_ then is.
void Product::CopyB(char* to) {
  const int64_t cols = p_.b.shape[1];
  ParallelBlocks(context_.pool, p_.b.shape[0], RowsPerTask(cols),
                 [&](int64_t begin, int64_t end, int) {
                   PackStored(b_, begin, end - begin, 0, cols, dtype_,
                              to + begin * cols * SizeOf(dtype_));
                 });
  dense_b_ = to;
}

// The tiles of dense_b_, which they then are.
void Product::TileB(char* tiles) {
  const GemmShape shape{
      .n = n_, .k = k_, .dtype = dtype_, .transpose_b = b_.transpose};
  constexpr int64_t kColumns = 32;
  const int64_t blocks = (n_ + kColumns - 1) / kColumns;
  ParallelBlocks(context_.pool, blocks, RowsPerTask(kColumns * k_),
                 [&](int64_t begin, int64_t end, int) {
                   context_.gemm.PackB(shape, dense_b_, begin * kColumns,
                                       (end - begin) * kColumns, tiles);
                 });
  dense_b_ = tiles;
  b_in_tiles_ = true;
}

// `dtype` becomes that of what is returned.
const void* Product::TileOfA(int64_t row, int64_t rows, char** scratch,
                             DType* dtype) const {
  const bool vector = m_ == 1 && p_.a.stride[0] == 1;
  const bool rounds = dtype_ == DType::kBF16 && context_.gemm.rounds_a() &&
                      p_.a.dtype == DType::kF32;
  if (rounds && !a_.transpose && (m_ <= 1 || p_.a.stride[0] == k_)) {
    *dtype = DType::kF32;
    return a_.Row(row, 0);
  }
  *dtype = dtype_;
  if (!a_.transpose && a_.DenseAs(dtype_)) return a_.Row(row, 0);
  if (a_.transpose && vector && a_.Holds(dtype_)) return p_.a.data;
  char* to = *scratch;
  *scratch += Aligned(rows * k_ * SizeOf(dtype_));
  if (a_.transpose) {
    PackTransposed(a_, row, rows, dtype_, *scratch, to);
    *scratch += Aligned(kTransposeBlock * rows * SizeOf(dtype_));
  } else {
    PackStored(a_, row, rows, 0, k_, dtype_, to);
  }
  return to;
}

const void* Product::TileOfB(int64_t col, int64_t cols, char** scratch) const {
  const char* b = static_cast<const char*>(dense_b_);
  if (b_in_tiles_ || (!b_.transpose && cols == n_)) return b;
  if (b_.transpose) return b + col * k_ * SizeOf(dtype_);
  char* to = *scratch;
  *scratch += Aligned(cols * k_ * SizeOf(dtype_));
  const int64_t bytes = cols * SizeOf(dtype_);
  for (int64_t l = 0; l < k_; ++l) {
    std::memcpy(to + l * bytes, b + (l * n_ + col) * SizeOf(dtype_), bytes);
  }
  return to;
}

void Product::StoreTile(const char* tile, DType tile_dtype, int64_t row,
                        int64_t rows, int64_t col, int64_t cols) const {
  for (int64_t i = 0; i < rows; ++i) {
    char* out = p_.out.as<char>() +
                ((row + i) * p_.out.stride[0] + col) * SizeOf(p_.out.dtype);
    CopyElements(tile + i * cols * SizeOf(tile_dtype), tile_dtype, out,
                 p_.out.dtype, cols);
  }
}

int64_t Product::ScratchBytes(int64_t rows, int64_t cols) const {
  const int64_t size = SizeOf(dtype_);
  return Aligned(rows * k_ * size) + Aligned(kTransposeBlock * rows * size) +
         Aligned(cols * k_ * size) +
         Aligned(rows * cols * static_cast<int64_t>(sizeof(float)));
}

void Product::RunTile(int64_t row, int64_t rows, int64_t col, int64_t cols,
                      int thread) {
  char* scratch =
      context_.thread_scratch[thread].Reserve<char>(ScratchBytes(rows, cols));
  GemmShape shape{.m = rows,
                  .n = cols,
                  .k = k_,
                  .dtype = dtype_,
                  .a_dtype = dtype_,
                  .out_dtype = p_.out.dtype,
                  .transpose_b = b_.transpose,
                  .b_in_tiles = b_in_tiles_,
                  .accumulate = p_.beta != 0.0f,
                  .alpha = p_.alpha};
  const void* a = TileOfA(row, rows, &scratch, &shape.a_dtype);
  const void* b = TileOfB(col, cols, &scratch);
  // bf16 results of f32 products pass through an f32 tile.
  if (dtype_ == DType::kF32) shape.out_dtype = DType::kF32;
  TensorView out = p_.out.Rows(row, rows);
  out.data = out.as<char>() + col * SizeOf(out.dtype);
  const bool direct =
      shape.out_dtype == out.dtype && (rows == 1 || out.stride[0] == cols);
  if (direct) {
    context_.gemm.Run(shape, a, b, out.data, thread);
    return;
  }
  if (shape.accumulate) {
    for (int64_t i = 0; i < rows; ++i) {
      CopyElements(out.as<char>() + i * out.stride[0] * SizeOf(out.dtype),
                   out.dtype, scratch + i * cols * SizeOf(shape.out_dtype),
                   shape.out_dtype, cols);
    }
  }
  context_.gemm.Run(shape, a, b, scratch, thread);
  StoreTile(scratch, shape.out_dtype, row, rows, col, cols);
}

// Extent of a tile along a dimension of `extent` cut for `threads`: a multiple
// of `step`, smaller tiles than one a thread where they stay at least `least`,
// so that a slow core can do fewer of them.
int64_t TileExtent(int64_t extent, int64_t threads, int64_t step,
                   int64_t least) {
  int64_t tiles = threads;
  while (tiles < 4 * threads && extent / (2 * tiles) >= least) tiles *= 2;
  const int64_t tile = (extent + tiles - 1) / tiles;
  return (tile + step - 1) / step * step;
}

void Product::Run() {
  const int threads = context_.pool.num_threads();
  const bool serial =
      threads == 1 || (m_ + kElementWork) * n_ * k_ < kSerialWork;
  const bool by_rows = serial || m_ >= 32 * threads || n_ < 64 * threads;
  PackB(by_rows && m_ >= kTiledRows && context_.gemm.packs_b(dtype_) &&
        context_.gemm.TilesBytes(n_, k_) <= kMaxTilesBytes);
  if (serial) {
    RunTile(0, m_, 0, n_, 0);
  } else if (by_rows) {
    ParallelBlocks(context_.pool, m_, TileExtent(m_, threads, 16, 128),
                   [&](int64_t begin, int64_t end, int thread) {
                     RunTile(begin, end - begin, 0, n_, thread);
                   });
  } else {
    ParallelBlocks(context_.pool, n_, TileExtent(n_, threads, 64, 256),
                   [&](int64_t begin, int64_t end, int thread) {
                     RunTile(0, m_, begin, end - begin, thread);
                   });
  }
}

// An empty sum: out = beta * out.
void EmptySum(const MatMulParams& p) {
  if (p.beta != 0.0f) return;
  for (int64_t i = 0; i < p.out.shape[0]; ++i) {
    std::memset(p.out.Rows(i, 1).data, 0, p.out.shape[1] * SizeOf(p.out.dtype));
  }
}

}  // namespace

void MatMul(const MatMulParams& p, CpuContext& context) {
  if (p.out.shape[0] == 0 || p.out.shape[1] == 0) return;
  if (p.a.shape[p.transpose_a ? 0 : 1] == 0) {
    EmptySum(p);
    return;
  }
  if (SlimMatMul(p, context)) return;
  Product(p, context).Run();
}

}  // namespace sinklora::kernels::cpu
