// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/amx_tile_gemm.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/amx.h"

namespace sinklora::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kMaxRowTiles = 4;
constexpr int64_t kMaxColumnTiles = 16;
constexpr int64_t kMaxSteps = 8;  // of 32 elements

struct TileAt {
  const void* first;
  int64_t row_bytes;
};

// Pairs [first, first + 16) as far as [begin, end) covers them: which exist,
// and for one with an element outside, which half counts.
struct PairRange {
  int64_t begin, end;  // elements

  __mmask16 Covered(int64_t first) const {
    __mmask16 mask = 0;
    for (int64_t i = 0; i < kTilePairs; ++i) {
      const int64_t element = 2 * (first + i);
      if (element + 1 >= begin && element < end) mask |= 1u << i;
    }
    return mask;
  }
  uint32_t Halves(int64_t pair) const {
    uint32_t halves = 0;
    if (2 * pair >= begin && 2 * pair < end) halves |= 0x0000ffffu;
    if (2 * pair + 1 >= begin && 2 * pair + 1 < end) halves |= 0xffff0000u;
    return halves;
  }
  bool Whole(int64_t first) const {
    return 2 * first >= begin && 2 * (first + kTilePairs) <= end;
  }
};

__mmask16 LanesLeft(int64_t n) {
  return n >= kLanes ? static_cast<__mmask16>(0xffff)
                     : static_cast<__mmask16>((1u << n) - 1u);
}

class Gemm {
 public:
  Gemm(const Bf16GemmTile& t, int64_t begin, int64_t end, int64_t rows,
       int64_t cols)
      : t_(t),
        range_{begin, end},
        rows_(rows),
        cols_(cols),
        first_step_(begin / kTileElements),
        steps_((end + kTileElements - 1) / kTileElements - first_step_) {}

  void Run();

 private:
  int64_t Pair(int64_t step) const { return (first_step_ + step) * kTilePairs; }
  // 16 rows of a from `row` on, and 16 columns of b: where they lie, or copied
  // with zeros for what does not count.
  TileAt RowTile(int64_t row, int64_t step, char* copy) const;
  TileAt ColumnTile(int64_t column, int64_t step, char* copy) const;
  void LoadTiles();
  void Block(int64_t row_tile, int64_t column_tile);
  // Sums of a tile of results: in place, or a copy of those that exist.
  float* SumsAt(int64_t row, int64_t column, float* copy,
                int64_t* row_bytes) const;
  void StoreCopy(const float* copy, int64_t row, int64_t column) const;

  const Bf16GemmTile& t_;
  const PairRange range_;
  const int64_t rows_, cols_;
  const int64_t first_step_, steps_;
  TileAt a_[kMaxRowTiles + 1][kMaxSteps];
  TileAt b_[kMaxColumnTiles + 1][kMaxSteps];
  alignas(64) char a_copies_[kMaxRowTiles * kMaxSteps * kTileBytes];
  // The first and the last step of all columns, every step of the last ones.
  alignas(64) char b_copies_[(kMaxColumnTiles * 2 + kMaxSteps) * kTileBytes];
};

SINKLORA_AMX_TARGET TileAt Gemm::RowTile(int64_t row, int64_t step,
                                         char* copy) const {
  const int64_t pair = Pair(step);
  const Bf16Pair* from = t_.a + row * t_.a_row + pair;
  if (row + kTileRows <= rows_ && range_.Whole(pair)) {
    return {from, t_.a_row * 4};
  }
  const __mmask16 covered = range_.Covered(pair);
  alignas(64) uint32_t halves[kTilePairs];
  for (int64_t i = 0; i < kTilePairs; ++i) halves[i] = range_.Halves(pair + i);
  const __m512i kept = _mm512_load_si512(halves);
  for (int64_t i = 0; i < kTileRows; ++i) {
    const __mmask16 mask = row + i < rows_ ? covered : 0;
    const __m512i x =
        _mm512_maskz_loadu_epi32(mask, mask == 0 ? t_.a : from + i * t_.a_row);
    _mm512_store_si512(copy + i * kTileRowBytes, _mm512_and_si512(x, kept));
  }
  return {copy, kTileRowBytes};
}

SINKLORA_AMX_TARGET TileAt Gemm::ColumnTile(int64_t column, int64_t step,
                                            char* copy) const {
  const int64_t pair = Pair(step);
  if (column + kTileColumns <= cols_ && range_.Whole(pair)) {
    return {t_.b + pair * t_.b_row + column, t_.b_row * 4};
  }
  const __mmask16 lanes = LanesLeft(cols_ - column);
  for (int64_t i = 0; i < kTilePairs; ++i) {
    const uint32_t halves = range_.Halves(pair + i);
    const __m512i x =
        halves == 0 ? _mm512_setzero_si512()
                    : _mm512_and_si512(
                          _mm512_maskz_loadu_epi32(
                              lanes, t_.b + (pair + i) * t_.b_row + column),
                          _mm512_set1_epi32(static_cast<int>(halves)));
    _mm512_store_si512(copy + i * kTileRowBytes, x);
  }
  return {copy, kTileRowBytes};
}

// Odd numbers of tiles are rounded up: the last is its neighbour again, whose
// results are not kept.
void Gemm::LoadTiles() {
  char* copy = a_copies_;
  int64_t tile = 0;
  for (int64_t row = 0; row < rows_; row += kTileRows, ++tile) {
    for (int64_t s = 0; s < steps_; ++s, copy += kTileBytes) {
      a_[tile][s] = RowTile(row, s, copy);
    }
  }
  std::copy_n(a_[tile - 1], steps_, a_[tile]);
  tile = 0;
  copy = b_copies_;
  for (int64_t column = 0; column < cols_; column += kTileColumns, ++tile) {
    for (int64_t s = 0; s < steps_; ++s) {
      b_[tile][s] = ColumnTile(column, s, copy);
      if (b_[tile][s].first == copy) copy += kTileBytes;
    }
  }
  std::copy_n(b_[tile - 1], steps_, b_[tile]);
}

SINKLORA_AMX_TARGET float* Gemm::SumsAt(int64_t row, int64_t column,
                                        float* copy, int64_t* row_bytes) const {
  if (row + kTileRows <= rows_ && column + kTileColumns <= cols_) {
    *row_bytes = t_.out_row * static_cast<int64_t>(sizeof(float));
    return t_.out + row * t_.out_row + column;
  }
  *row_bytes = kTileRowBytes;
  for (int64_t i = 0; i < kTileRows && t_.accumulate; ++i) {
    const bool exists = row + i < rows_ && column < cols_;
    _mm512_store_ps(
        copy + i * kLanes,
        exists ? _mm512_maskz_loadu_ps(LanesLeft(cols_ - column),
                                       t_.out + (row + i) * t_.out_row + column)
               : _mm512_setzero_ps());
  }
  return copy;
}

SINKLORA_AMX_TARGET void Gemm::StoreCopy(const float* copy, int64_t row,
                                         int64_t column) const {
  if (column >= cols_) return;
  for (int64_t i = 0; i < kTileRows && row + i < rows_; ++i) {
    _mm512_mask_storeu_ps(t_.out + (row + i) * t_.out_row + column,
                          LanesLeft(cols_ - column),
                          _mm512_load_ps(copy + i * kLanes));
  }
}

SINKLORA_AMX_TARGET void Gemm::Block(int64_t row_tile, int64_t column_tile) {
  alignas(64) float copies[4][kTileRows * kLanes];
  float* sums[4];
  int64_t bytes[4];
  for (int i = 0; i < 4; ++i) {
    sums[i] =
        SumsAt((row_tile + i / 2) * kTileRows,
               (column_tile + i % 2) * kTileColumns, copies[i], &bytes[i]);
  }
  if (t_.accumulate) {
    _tile_loadd(0, sums[0], bytes[0]);
    _tile_loadd(1, sums[1], bytes[1]);
    _tile_loadd(2, sums[2], bytes[2]);
    _tile_loadd(3, sums[3], bytes[3]);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t s = 0; s < steps_; ++s) {
    const TileAt &a0 = a_[row_tile][s], &a1 = a_[row_tile + 1][s];
    const TileAt &b0 = b_[column_tile][s], &b1 = b_[column_tile + 1][s];
    _tile_loadd(4, a0.first, a0.row_bytes);
    _tile_loadd(6, b0.first, b0.row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b1.first, b1.row_bytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a1.first, a1.row_bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums[0], bytes[0]);
  _tile_stored(1, sums[1], bytes[1]);
  _tile_stored(2, sums[2], bytes[2]);
  _tile_stored(3, sums[3], bytes[3]);
  for (int i = 0; i < 4; ++i) {
    if (sums[i] == copies[i]) {
      StoreCopy(copies[i], (row_tile + i / 2) * kTileRows,
                (column_tile + i % 2) * kTileColumns);
    }
  }
}

void Gemm::Run() {
  LoadTiles();
  for (int64_t r = 0; r * kTileRows < rows_; r += 2) {
    for (int64_t c = 0; c * kTileColumns < cols_; c += 2) Block(r, c);
  }
}

}  // namespace

void AmxTileGemm(const Bf16GemmTile& tile, int64_t begin, int64_t end,
                 int64_t rows, int64_t cols) {
  if (rows == 0 || cols == 0) return;
  if (begin < end) {
    Gemm(tile, begin, end, rows, cols).Run();
    return;
  }
  for (int64_t r = 0; r < rows && !tile.accumulate; ++r) {
    std::fill_n(tile.out + r * tile.out_row, cols, 0.0f);
  }
}

}  // namespace sinklora::kernels::cpu
