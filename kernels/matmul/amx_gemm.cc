// One operand, R, is read by rows (16 of them are a tile as they lie), the
// other, C, by columns (16 of them, in pairs of rows, are one). Where b is
// transposed and not in tiles its rows are R, so that weights are never
// rearranged, and results come out transposed; else a's rows are.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/amx_gemm.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/amx.h"
#include "kernels/matmul/amx_narrow.h"
#include "kernels/matmul/amx_pack.h"

namespace sinklora::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kBlock = 2 * kTileRows;  // results of a block, both ways
// C is packed this much at a time, to stay in the second cache.
constexpr int64_t kPackedBytes = int64_t{1} << 20;
constexpr int64_t kMaxPackedColumns = 512;
// And R, where it is packed for more than one part of C.
constexpr int64_t kPackedRowBytes = int64_t{4} << 20;
// Tiles along k of which R's 32 rows stay in the first cache.
constexpr int64_t kDepth = 8;

int64_t Rounded(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}

__mmask16 LanesLeft(int64_t n) {
  return static_cast<__mmask16>(
      n >= kLanes ? 0xffffu : (1u << std::max<int64_t>(n, 0)) - 1u);
}

// 16 rows of R, as tiles along k.
struct TileLine {
  const char* first;
  int64_t row_bytes;   // from a row of a tile to the next
  int64_t tile_bytes;  // from a tile to the next

  TileLine From(int64_t tile) const {
    return {first + tile * tile_bytes, row_bytes, tile_bytes};
  }
};

// 32 x 32 results over `steps` tiles along k.
struct Block {
  TileLine r[2];
  const char* c[2];  // packed
  float* sums;       // [32][row_floats], the first 32 of each row
  int64_t row_floats;
};

// What comes after a block and is asked for meanwhile, as long products wait
// for memory, not for tiles: `read_lines` lines of 64 bytes at each step, and
// 32 rows of results where not null.
struct Ahead {
  const char* read = nullptr;
  int64_t read_lines = 0;
  const float* write = nullptr;
  int64_t write_row_floats = 0;

  // At step `s` of `steps`.
  SINKLORA_AMX_TARGET void Ask(int64_t s, int64_t steps) const {
    const char* line = read + s * read_lines * kTileRowBytes;
    for (int64_t i = 0; i < read_lines; ++i, line += kTileRowBytes) {
      _mm_prefetch(line, _MM_HINT_T1);
    }
    if (write == nullptr) return;
    const int64_t rows = (kBlock + steps - 1) / steps;
    const int64_t end = std::min((s + 1) * rows, kBlock);
    for (int64_t r = s * rows; r < end; ++r) {
      const float* row = write + r * write_row_floats;
      __builtin_prefetch(row, 1, 2);
      __builtin_prefetch(row + kLanes, 1, 2);
    }
  }
};

SINKLORA_AMX_TARGET void MultiplyBlock(const Block& b, int64_t steps,
                                       bool first, const Ahead& ahead) {
  const int64_t row_bytes = b.row_floats * static_cast<int64_t>(sizeof(float));
  float* lower = b.sums + kTileRows * b.row_floats;
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, b.sums, row_bytes);
    _tile_loadd(1, b.sums + kLanes, row_bytes);
    _tile_loadd(2, lower, row_bytes);
    _tile_loadd(3, lower + kLanes, row_bytes);
  }
  const char *r0 = b.r[0].first, *r1 = b.r[1].first;
  const char *c0 = b.c[0], *c1 = b.c[1];
  for (int64_t s = 0; s < steps; ++s) {
    ahead.Ask(s, steps);
    _tile_loadd(4, r0, b.r[0].row_bytes);
    _tile_loadd(6, c0, kTileRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, c1, kTileRowBytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, r1, b.r[1].row_bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    r0 += b.r[0].tile_bytes;
    r1 += b.r[1].tile_bytes;
    c0 += kTileBytes;
    c1 += kTileBytes;
  }
  _tile_stored(0, b.sums, row_bytes);
  _tile_stored(1, b.sums + kLanes, row_bytes);
  _tile_stored(2, lower, row_bytes);
  _tile_stored(3, lower + kLanes, row_bytes);
}

class Product {
 public:
  Product(const GemmShape& s, const void* a, const void* b, void* out)
      : s_(s),
        swapped_(s.transpose_b && !s.b_in_tiles),
        a_(a),
        b_(static_cast<const bf16_t*>(b)),
        rows_(swapped_ ? s.n : s.m),
        columns_(swapped_ ? s.m : s.n),
        tiles_(TilesOf(s.k)),
        out_(out) {}

  void Run(Scratch& scratch);
  void RunTiled(Scratch& scratch);
  void RunFewRows(Scratch& scratch);
  bool a_is_f32() const { return s_.a_dtype == DType::kF32; }
  bool few_rows() const { return swapped_ && columns_ <= kTileColumns; }
  // Whether sums are the results as they are stored.
  bool plain() const {
    return !swapped_ && s_.out_dtype == DType::kF32 && !s_.accumulate &&
           s_.alpha == 1.0f;
  }

 private:
  bool converts_r() const { return !swapped_ && a_is_f32(); }
  // 16 rows of R where they lie, or in `tiles` once they are packed.
  TileLine RowTiles(int64_t row, char* tiles) const;
  TileLine PackRowTiles(int64_t row, char* tiles) const;
  void PackC(int64_t column, int64_t columns, char* tiles) const;
  // Results (row, column) and on: in `sums`, of 32 rows of 32, or in out.
  Block BlockAt(int64_t row, int64_t column, float* sums) const;
  // Of what RunRows(row, ...) reads after `steps` steps, and then writes.
  Ahead AheadOf(int64_t row, int64_t column, int64_t columns,
                int64_t steps) const;
  void Store(const float* sums, int64_t sums_row, int64_t row,
             int64_t column) const;
  void StoreBlock(const float* sums, int64_t row, int64_t column) const;
  void RunRows(int64_t row, const TileLine (&r)[2], int64_t column,
               int64_t columns, const char* packed_c, float* sums) const;
  int64_t ChunkColumns() const;  // of C that are taken at a time
  void StoreRow(__m512 sums, int64_t m, int64_t n, int64_t count) const;

  const GemmShape& s_;
  const bool swapped_;
  const void* const a_;  // s.a_dtype
  const bf16_t* const b_;
  const int64_t rows_, columns_;
  const int64_t tiles_;  // along k
  void* const out_;
};

void Product::PackC(int64_t column, int64_t columns, char* tiles) const {
  const int64_t step = swapped_ ? kTileColumns : kBlock;
  for (int64_t i = 0; i < columns; i += step) {
    char* to = tiles + i / kTileColumns * tiles_ * kTileBytes;
    if (!swapped_) {
      PackTwoTileColumns(b_, columns_, s_.k, column + i, to);
    } else if (a_is_f32()) {
      PackTransposedTileColumns(static_cast<const float*>(a_), columns_, s_.k,
                                column + i, to);
    } else {
      PackTransposedTileColumns(static_cast<const bf16_t*>(a_), columns_, s_.k,
                                column + i, to);
    }
  }
}

TileLine Product::RowTiles(int64_t row, char* tiles) const {
  // Rows a multiple of 2 KiB apart share a few sets of the first cache and
  // drive each other out.
  const bool in_place = !converts_r() && s_.k % kTileElements == 0 &&
                        s_.k % 1024 != 0 && row + kTileRows <= rows_;
  if (!in_place) return {tiles, kTileRowBytes, kTileBytes};
  const auto* r = swapped_ ? b_ : static_cast<const bf16_t*>(a_);
  return {reinterpret_cast<const char*>(r + row * s_.k),
          s_.k * static_cast<int64_t>(sizeof(bf16_t)), kTileRowBytes};
}

TileLine Product::PackRowTiles(int64_t row, char* tiles) const {
  const TileLine line = RowTiles(row, tiles);
  if (line.first != tiles) return line;
  if (converts_r()) {
    PackTileRows(static_cast<const float*>(a_), rows_, s_.k, row, tiles);
  } else {
    PackTileRows(swapped_ ? b_ : static_cast<const bf16_t*>(a_), rows_, s_.k,
                 row, tiles);
  }
  return line;
}

// Results (m, n .. n + count) of a row of out.
SINKLORA_AMX_TARGET inline void Product::StoreRow(__m512 sums, int64_t m,
                                                  int64_t n,
                                                  int64_t count) const {
  const __mmask16 mask = LanesLeft(count);
  const int64_t at = m * s_.n + n;
  if (s_.alpha != 1.0f) sums = _mm512_mul_ps(sums, _mm512_set1_ps(s_.alpha));
  if (s_.out_dtype == DType::kF32) {
    float* to = static_cast<float*>(out_) + at;
    if (s_.accumulate) {
      sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, to));
    }
    _mm512_mask_storeu_ps(to, mask, sums);
    return;
  }
  bf16_t* to = static_cast<bf16_t*>(out_) + at;
  if (s_.accumulate) {
    const __m512i held =
        _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, to));
    sums =
        _mm512_add_ps(sums, _mm512_castsi512_ps(_mm512_slli_epi32(held, 16)));
  }
  _mm256_mask_storeu_epi16(to, mask,
                           reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(sums)));
}

// A tile of results whose first is (row of R, column of C).
SINKLORA_AMX_TARGET void Product::Store(const float* sums, int64_t sums_row,
                                        int64_t row, int64_t column) const {
  const int64_t rows = std::min(kTileRows, rows_ - row);
  const int64_t columns = std::min(kTileColumns, columns_ - column);
  if (rows <= 0 || columns <= 0) return;
  if (!swapped_) {
    for (int64_t i = 0; i < rows; ++i) {
      StoreRow(_mm512_loadu_ps(sums + i * sums_row), row + i, column, columns);
    }
    return;
  }
  __m512i block[16];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kLanes; ++i) {
    block[i] = _mm512_loadu_si512(sums + i * sums_row);
  }
  Transpose16(block);
  alignas(64) float turned[16][16];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kLanes; ++i) _mm512_store_si512(turned[i], block[i]);
  for (int64_t i = 0; i < columns; ++i) {
    StoreRow(_mm512_load_ps(turned[i]), column + i, row, rows);
  }
}

void Product::StoreBlock(const float* sums, int64_t row, int64_t column) const {
  for (int64_t i = 0; i < kBlock; i += kTileRows) {
    for (int64_t j = 0; j < kBlock; j += kTileColumns) {
      Store(sums + i * kBlock + j, kBlock, row + i, column + j);
    }
  }
}

Block Product::BlockAt(int64_t row, int64_t column, float* sums) const {
  Block block{};
  block.sums = sums;
  block.row_floats = kBlock;
  if (plain() && row + kBlock <= rows_ && column + kBlock <= columns_) {
    block.sums = static_cast<float*>(out_) + row * s_.n + column;
    block.row_floats = s_.n;
  }
  return block;
}

Ahead Product::AheadOf(int64_t row, int64_t column, int64_t columns,
                       int64_t steps) const {
  Ahead ahead;
  if (!s_.b_in_tiles || row + kBlock > rows_) return ahead;
  if (s_.out_dtype == DType::kF32 && column + kBlock <= columns_) {
    ahead.write = static_cast<const float*>(out_) + row * s_.n + column;
    ahead.write_row_floats = s_.n;
  }
  if (columns < columns_) return ahead;  // rows are packed for all columns
  const int64_t row_bytes = s_.k * SizeOf(s_.a_dtype);
  const int64_t all_steps = tiles_ * columns / kBlock;
  const int64_t lines = kBlock * row_bytes / kTileRowBytes;
  ahead.read_lines = (lines + all_steps - 1) / all_steps;
  ahead.read = static_cast<const char*>(a_) + row * row_bytes +
               steps * ahead.read_lines * kTileRowBytes;
  return ahead;
}

// 32 rows of R, `r`, by the packed columns [column, column + columns) of C.
void Product::RunRows(int64_t row, const TileLine (&r)[2], int64_t column,
                      int64_t columns, const char* packed_c,
                      float* sums) const {
  const int64_t tile_line = tiles_ * kTileBytes;  // 16 rows or columns
  const auto sums_of = [&](int64_t i) { return sums + i * kBlock; };
  int64_t done = 0;
  for (int64_t t = 0; t < tiles_; t += kDepth) {
    const bool last = t + kDepth >= tiles_;
    const int64_t steps = std::min(kDepth, tiles_ - t);
    for (int64_t i = 0; i < columns; i += kBlock) {
      Block block = BlockAt(row, column + i, sums_of(i));
      const char* c = packed_c + i / kTileColumns * tile_line + t * kTileBytes;
      for (int side = 0; side < 2; ++side) {
        block.r[side] = r[side].From(t);
        block.c[side] = c + side * tile_line;
      }
      Ahead ahead = AheadOf(row + kBlock, column + i, columns, done);
      if (!last) ahead.write = nullptr;
      MultiplyBlock(block, steps, t == 0, ahead);
      done += steps;
      if (last && block.sums == sums_of(i)) {
        StoreBlock(block.sums, row, column + i);
      }
    }
  }
}

int64_t Product::ChunkColumns() const {
  return std::min(
      Rounded(columns_, kBlock),
      std::clamp(kPackedBytes / (tiles_ * kTileRowBytes) / kBlock * kBlock,
                 kBlock, kMaxPackedColumns));
}

void Product::Run(Scratch& scratch) {
  const int64_t line_bytes = tiles_ * kTileBytes;
  const int64_t chunk = ChunkColumns();
  const int64_t c_bytes = chunk / kTileColumns * line_bytes;
  char* packed_r = static_cast<char*>(scratch.ReserveBytes(
      c_bytes + 2 * line_bytes +
      chunk * kBlock * static_cast<int64_t>(sizeof(float))));
  char* packed_c = packed_r + 2 * line_bytes;
  auto* sums = reinterpret_cast<float*>(packed_c + c_bytes);
  for (int64_t column = 0; column < columns_; column += chunk) {
    const int64_t columns = std::min(chunk, Rounded(columns_ - column, kBlock));
    PackC(column, columns, packed_c);
    for (int64_t row = 0; row < rows_; row += kBlock) {
      const TileLine r[2] = {
          PackRowTiles(row, packed_r),
          PackRowTiles(row + kTileRows, packed_r + line_bytes)};
      RunRows(row, r, column, columns, packed_c, sums);
    }
  }
}

// With C packed already. Rows of R are packed once for all of its chunks.
void Product::RunTiled(Scratch& scratch) {
  const int64_t line_bytes = tiles_ * kTileBytes;
  const int64_t chunk = ChunkColumns();
  const int64_t most =
      chunk >= columns_ ? 2 : kPackedRowBytes / line_bytes / 2 * 2;
  const int64_t lines =
      std::min(Rounded(rows_, kBlock) / kTileRows, std::max<int64_t>(2, most));
  char* packed_r = static_cast<char*>(scratch.ReserveBytes(
      lines * line_bytes +
      chunk * kBlock * static_cast<int64_t>(sizeof(float))));
  auto* sums = reinterpret_cast<float*>(packed_r + lines * line_bytes);
  for (int64_t first = 0; first < rows_; first += lines * kTileRows) {
    const int64_t end =
        std::min(first + lines * kTileRows, Rounded(rows_, kBlock));
    const auto packed = [&](int64_t row) {
      return packed_r + (row - first) / kTileRows * line_bytes;
    };
    for (int64_t row = first; row < end; row += kTileRows) {
      PackRowTiles(row, packed(row));
    }
    for (int64_t column = 0; column < columns_; column += chunk) {
      const char* c = reinterpret_cast<const char*>(b_) +
                      column / kTileColumns * line_bytes;
      const int64_t columns =
          std::min(chunk, Rounded(columns_ - column, kBlock));
      for (int64_t row = first; row < end; row += kBlock) {
        const TileLine r[2] = {
            RowTiles(row, packed(row)),
            RowTiles(row + kTileRows, packed(row + kTileRows))};
        RunRows(row, r, column, columns, c, sums);
      }
    }
  }
}

SINKLORA_AMX_TARGET void Product::RunFewRows(Scratch& scratch) {
  const int64_t line = tiles_ * kTileBytes;
  char* packed_r = static_cast<char*>(scratch.ReserveBytes(3 * line));
  auto* words = reinterpret_cast<uint32_t*>(packed_r + 2 * line);
  if (a_is_f32()) {
    PackNarrowTileColumns(static_cast<const float*>(a_), columns_, s_.k, words);
  } else {
    PackNarrowTileColumns(static_cast<const bf16_t*>(a_), columns_, s_.k,
                          words);
  }
  const NarrowColumns c{words, columns_};
  const bool whole = s_.k % kTileElements == 0;
  alignas(64) float sums[2][256] = {};  // columns beyond are not written
  for (int64_t row = 0; row < rows_; row += kBlock) {
    _tile_zero(0);
    _tile_zero(1);
    if (whole && row + kBlock <= rows_) {
      AddNarrowInPlace(b_ + row * s_.k, s_.k, c);
    } else {
      PackTileRows(b_, rows_, s_.k, row, packed_r);
      PackTileRows(b_, rows_, s_.k, row + kTileRows, packed_r + line);
      AddNarrowPacked(packed_r, tiles_, c);
    }
    _tile_stored(0, sums[0], kTileRowBytes);
    _tile_stored(1, sums[1], kTileRowBytes);
    Store(sums[0], kLanes, row, 0);
    Store(sums[1], kLanes, row + kTileRows, 0);
  }
}

}  // namespace

int64_t AmxTilesBytes(int64_t n, int64_t k) {
  return Rounded(n, kBlock) * TilesOf(k) * kTileRowBytes;
}

void AmxPackB(const GemmShape& shape, const bf16_t* b, int64_t column,
              int64_t columns, void* tiles) {
  const int64_t line = TilesOf(shape.k) * kTileBytes;
  const int64_t step = shape.transpose_b ? kTileColumns : kBlock;
  for (int64_t c = column; c < column + columns; c += step) {
    char* to = static_cast<char*>(tiles) + c / kTileColumns * line;
    if (shape.transpose_b) {
      PackTransposedTileColumns(b, shape.n, shape.k, c, to);
    } else {
      PackTwoTileColumns(b, shape.n, shape.k, c, to);
    }
  }
}

void AmxGemm(const GemmShape& shape, const void* a, const void* b, void* out,
             Scratch& scratch) {
  Product product(shape, a, b, out);
  const TileScope tiles(product.few_rows() ? shape.m : kTileColumns);
  if (product.few_rows()) {
    product.RunFewRows(scratch);
  } else if (shape.b_in_tiles) {
    product.RunTiled(scratch);
  } else {
    product.Run(scratch);
  }
}

}  // namespace sinklora::kernels::cpu
