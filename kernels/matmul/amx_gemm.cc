// One operand, R, is read by rows (16 of them are a tile as they lie), the
// other, C, by columns (16 of them, in pairs of rows, are one). Where b is
// transposed its rows are R, so that weights are never rearranged, and results
// come out transposed; else a's rows are.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul/amx_gemm.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/amx.h"

namespace sinklora::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kBlock = 2 * kTileRows;  // results of a block, both ways
// C is packed this much at a time, to stay in the second cache.
constexpr int64_t kPackedBytes = int64_t{1} << 20;
constexpr int64_t kMaxPackedColumns = 512;
// Tiles along k of which R's 32 rows stay in the first cache.
constexpr int64_t kDepth = 16;

int64_t TilesOf(int64_t elements) {
  return (elements + kTileElements - 1) / kTileElements;
}
int64_t Rounded(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}

__mmask16 LanesLeft(int64_t n) {
  return static_cast<__mmask16>(
      n >= kLanes ? 0xffffu : (1u << std::max<int64_t>(n, 0)) - 1u);
}

// Halves of words that exist: bf16 elements [0, n) of 32.
__mmask32 ElementsLeft(int64_t n) {
  return n >= kTileElements
             ? 0xffffffffu
             : static_cast<__mmask32>((1u << std::max<int64_t>(n, 0)) - 1u);
}

// 32 elements as bf16, those of the mask.
SINKLORA_AMX_TARGET inline __m512i LoadElements(__mmask32 mask,
                                                const bf16_t* from) {
  return _mm512_maskz_loadu_epi16(mask, from);
}
SINKLORA_AMX_TARGET inline __m512i LoadElements(__mmask32 mask,
                                                const float* from) {
  const auto low = static_cast<__mmask16>(mask);
  const auto high = static_cast<__mmask16>(mask >> kLanes);
  return reinterpret_cast<__m512i>(
      _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, from + kLanes),
                          _mm512_maskz_loadu_ps(low, from)));
}

// Rows [row, row + 16) of x [rows][k] as tiles along k, zeros beyond either.
template <typename T>
SINKLORA_AMX_TARGET void PackRows(const T* x, int64_t rows, int64_t k,
                                  int64_t row, char* tiles) {
  const int64_t held = std::clamp<int64_t>(rows - row, 0, kTileRows);
  const T* from = x + row * k;
  for (int64_t e = 0; e < k; e += kTileElements, tiles += kTileBytes) {
    const __mmask32 mask = ElementsLeft(k - e);
    for (int64_t i = 0; i < held; ++i) {
      _mm512_store_si512(tiles + i * kTileRowBytes,
                         LoadElements(mask, from + i * k + e));
    }
    std::memset(tiles + held * kTileRowBytes, 0,
                (kTileRows - held) * kTileRowBytes);
  }
}

// Columns [column, column + 16) of the transpose of x [columns][k].
template <typename T>
SINKLORA_AMX_TARGET void PackTransposedColumns(const T* x, int64_t columns,
                                               int64_t k, int64_t column,
                                               char* tiles) {
  for (int64_t e = 0; e < k; e += kTileElements, tiles += kTileBytes) {
    const __mmask32 mask = ElementsLeft(k - e);
    __m512i block[16];
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) {
      const bool exists = column + i < columns;
      block[i] = LoadElements(exists ? mask : 0,
                              (exists ? x + (column + i) * k : x) + e);
    }
    Transpose16(block);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) {
      _mm512_store_si512(tiles + i * kTileRowBytes, block[i]);
    }
  }
}

// Columns [column, column + 16) of x [k][columns].
SINKLORA_AMX_TARGET void PackColumns(const bf16_t* x, int64_t columns,
                                     int64_t k, int64_t column, char* tiles) {
  const __mmask16 mask = LanesLeft(columns - column);
  const auto row = [&](int64_t e) SINKLORA_AMX_TARGET {
    return e < k ? _mm512_cvtepu16_epi32(
                       _mm256_maskz_loadu_epi16(mask, x + e * columns + column))
                 : _mm512_setzero_si512();
  };
  const int64_t padded = TilesOf(k) * kTileElements;
  for (int64_t e = 0; e < padded; e += 2, tiles += kTileRowBytes) {
    const __m512i pairs =
        _mm512_or_si512(row(e), _mm512_slli_epi32(row(e + 1), 16));
    _mm512_store_si512(tiles, pairs);
  }
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

// 2 x 2 tiles of results in `sums`, over `steps` tiles along k.
struct Block {
  TileLine r[2];
  const char* c[2];  // packed
  float* sums;       // [2][2][16][16]
};
SINKLORA_AMX_TARGET void MultiplyBlock(const Block& b, int64_t steps,
                                       bool first) {
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, b.sums, kTileRowBytes);
    _tile_loadd(1, b.sums + 256, kTileRowBytes);
    _tile_loadd(2, b.sums + 512, kTileRowBytes);
    _tile_loadd(3, b.sums + 768, kTileRowBytes);
  }
  for (int64_t s = 0; s < steps; ++s) {
    const int64_t at = s * kTileBytes;
    _tile_loadd(4, b.r[0].first + s * b.r[0].tile_bytes, b.r[0].row_bytes);
    _tile_loadd(6, b.c[0] + at, kTileRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b.c[1] + at, kTileRowBytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, b.r[1].first + s * b.r[1].tile_bytes, b.r[1].row_bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, b.sums, kTileRowBytes);
  _tile_stored(1, b.sums + 256, kTileRowBytes);
  _tile_stored(2, b.sums + 512, kTileRowBytes);
  _tile_stored(3, b.sums + 768, kTileRowBytes);
}

class Product {
 public:
  Product(const GemmShape& s, const void* a, const void* b, void* out)
      : s_(s),
        swapped_(s.transpose_b),
        a_(a),
        b_(static_cast<const bf16_t*>(b)),
        rows_(swapped_ ? s.n : s.m),
        columns_(swapped_ ? s.m : s.n),
        tiles_(TilesOf(s.k)),
        out_(out) {}

  void Run(Scratch& scratch);
  void RunFewRows(Scratch& scratch);
  bool a_is_f32() const { return s_.a_dtype == DType::kF32; }
  bool few_rows() const { return swapped_ && columns_ <= kTileColumns; }

 private:
  // 16 rows of R where they lie, or packed into `tiles`.
  TileLine RowTiles(int64_t row, char* tiles) const;
  void PackC(int64_t column, int64_t columns, char* tiles) const;
  void Store(const float* sums, int64_t row, int64_t column) const;
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
  for (int64_t i = 0; i < columns;
       i += kTileColumns, tiles += tiles_ * kTileBytes) {
    if (!swapped_) {
      PackColumns(b_, columns_, s_.k, column + i, tiles);
    } else if (a_is_f32()) {
      PackTransposedColumns(static_cast<const float*>(a_), columns_, s_.k,
                            column + i, tiles);
    } else {
      PackTransposedColumns(static_cast<const bf16_t*>(a_), columns_, s_.k,
                            column + i, tiles);
    }
  }
}

TileLine Product::RowTiles(int64_t row, char* tiles) const {
  // Rows a multiple of 2 KiB apart share a few sets of the first cache and
  // drive each other out.
  const bool converts = !swapped_ && a_is_f32();
  const bool in_place = !converts && s_.k % kTileElements == 0 &&
                        s_.k % 1024 != 0 && row + kTileRows <= rows_;
  const auto* r = swapped_ ? b_ : static_cast<const bf16_t*>(a_);
  if (in_place) {
    return {reinterpret_cast<const char*>(r + row * s_.k),
            s_.k * static_cast<int64_t>(sizeof(bf16_t)), kTileRowBytes};
  }
  if (converts) {
    PackRows(static_cast<const float*>(a_), rows_, s_.k, row, tiles);
  } else {
    PackRows(r, rows_, s_.k, row, tiles);
  }
  return {tiles, kTileRowBytes, kTileBytes};
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
SINKLORA_AMX_TARGET void Product::Store(const float* sums, int64_t row,
                                        int64_t column) const {
  const int64_t rows = std::min(kTileRows, rows_ - row);
  const int64_t columns = std::min(kTileColumns, columns_ - column);
  if (rows <= 0 || columns <= 0) return;
  if (!swapped_) {
    for (int64_t i = 0; i < rows; ++i) {
      StoreRow(_mm512_loadu_ps(sums + i * kLanes), row + i, column, columns);
    }
    return;
  }
  __m512i block[16];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kLanes; ++i) {
    block[i] = _mm512_loadu_si512(sums + i * kLanes);
  }
  Transpose16(block);
  alignas(64) float turned[16][16];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kLanes; ++i) _mm512_store_si512(turned[i], block[i]);
  for (int64_t i = 0; i < columns; ++i) {
    StoreRow(_mm512_load_ps(turned[i]), column + i, row, rows);
  }
}

void Product::Run(Scratch& scratch) {
  const int64_t column_bytes = tiles_ * kTileRowBytes;
  const int64_t chunk =
      std::min(Rounded(columns_, kBlock),
               std::clamp(kPackedBytes / column_bytes / kBlock * kBlock, kBlock,
                          kMaxPackedColumns));
  const int64_t block_floats = kBlock * kBlock;
  const int64_t sums_bytes =
      chunk / kBlock * block_floats * static_cast<int64_t>(sizeof(float));
  char* packed_c = static_cast<char*>(scratch.ReserveBytes(
      chunk * column_bytes + kBlock * column_bytes + sums_bytes));
  char* packed_r = packed_c + chunk * column_bytes;
  auto* sums = reinterpret_cast<float*>(packed_r + kBlock * column_bytes);
  const int64_t tile_line = tiles_ * kTileBytes;  // 16 rows or columns
  for (int64_t column = 0; column < columns_; column += chunk) {
    const int64_t columns = std::min(chunk, Rounded(columns_ - column, kBlock));
    PackC(column, columns, packed_c);
    for (int64_t row = 0; row < rows_; row += kBlock) {
      const TileLine r[2] = {RowTiles(row, packed_r),
                             RowTiles(row + kTileRows, packed_r + tile_line)};
      for (int64_t t = 0; t < tiles_; t += kDepth) {
        for (int64_t i = 0; i < columns / kBlock; ++i) {
          const char* c = packed_c + 2 * i * tile_line + t * kTileBytes;
          MultiplyBlock({{r[0].From(t), r[1].From(t)},
                         {c, c + tile_line},
                         sums + i * block_floats},
                        std::min(kDepth, tiles_ - t), t == 0);
        }
      }
      for (int64_t i = 0; i < columns / kBlock; ++i) {
        const float* block = sums + i * block_floats;
        const int64_t at = column + i * kBlock;
        Store(block, row, at);
        Store(block + 256, row, at + kTileColumns);
        Store(block + 512, row + kTileRows, at);
        Store(block + 768, row + kTileRows, at + kTileColumns);
      }
    }
  }
}

// Two tiles of R's rows as they lie with one of C, over whole tiles along k.
SINKLORA_AMX_TARGET void MultiplyInPlace(const bf16_t* r, int64_t k,
                                         const bf16_t* next, const char* c,
                                         int64_t steps) {
  const int64_t stride = k * static_cast<int64_t>(sizeof(bf16_t));
  for (int64_t s = 0; s < steps; ++s) {
    // The next 32 rows meanwhile come from memory in the order of addresses,
    // which is how it is fastest.
#pragma GCC unroll 32
    for (int i = 0; i < 32; ++i) {
      _mm_prefetch(next + (s * 32 + i) * kTileElements, _MM_HINT_T1);
    }
    _tile_loadd(6, c + s * kTileBytes, kTileRowBytes);
    _tile_loadd(4, r + s * kTileElements, stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, r + kTileRows * k + s * kTileElements, stride);
    _tile_dpbf16ps(1, 5, 6);
  }
}

SINKLORA_AMX_TARGET void Product::RunFewRows(Scratch& scratch) {
  const int64_t line = tiles_ * kTileBytes;
  char* packed_c = static_cast<char*>(scratch.ReserveBytes(3 * line));
  char* packed_r = packed_c + line;
  PackC(0, kTileColumns, packed_c);
  const bool whole = s_.k % kTileElements == 0;
  alignas(64) float sums[2][256];
  for (int64_t row = 0; row < rows_; row += kBlock) {
    _tile_zero(0);
    _tile_zero(1);
    if (whole && row + kBlock <= rows_) {
      const bf16_t* r = b_ + row * s_.k;
      const bool last = row + 2 * kBlock > rows_;
      MultiplyInPlace(r, s_.k, last ? r : r + kBlock * s_.k, packed_c, tiles_);
    } else {
      PackRows(b_, rows_, s_.k, row, packed_r);
      PackRows(b_, rows_, s_.k, row + kTileRows, packed_r + line);
      for (int64_t t = 0; t < tiles_; ++t) {
        _tile_loadd(6, packed_c + t * kTileBytes, kTileRowBytes);
        _tile_loadd(4, packed_r + t * kTileBytes, kTileRowBytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, packed_r + line + t * kTileBytes, kTileRowBytes);
        _tile_dpbf16ps(1, 5, 6);
      }
    }
    _tile_stored(0, sums[0], kTileRowBytes);
    _tile_stored(1, sums[1], kTileRowBytes);
    Store(sums[0], row, 0);
    Store(sums[1], row + kTileRows, 0);
  }
}

}  // namespace

void AmxGemm(const GemmShape& shape, const void* a, const void* b, void* out,
             Scratch& scratch) {
  const TileScope tiles;
  Product product(shape, a, b, out);
  if (product.few_rows()) {
    product.RunFewRows(scratch);
  } else {
    product.Run(scratch);
  }
}

}  // namespace sinklora::kernels::cpu
