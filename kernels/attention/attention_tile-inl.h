// Pieces of tiled attention shared by training and serving: transposed key
// panels, the online softmax of a row, and products that stop at the causal
// diagonal. Included once per target.
//
// SPDX-License-Identifier: Apache-2.0
#if defined(SINKLORA_KERNELS_ATTENTION_ATTENTION_TILE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SINKLORA_KERNELS_ATTENTION_ATTENTION_TILE_INL_H_
#undef SINKLORA_KERNELS_ATTENTION_ATTENTION_TILE_INL_H_
#else
#define SINKLORA_KERNELS_ATTENTION_ATTENTION_TILE_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "hwy/highway.h"
#include "kernels/attention/attention_plan.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_tile_gemm.h"
#include "kernels/cpu/bf16_gemm.h"
#include "kernels/cpu/micro_gemm-inl.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {

using Half = hn::CappedTag<float, 8>;

// Calls body(tag) with the widest tag that divides a head dimension (a multiple
// of 8).
template <class Body>
HWY_INLINE void WithHeadTag(int64_t head_dim, Body body) {
  const F32Tag full;
  if (head_dim % static_cast<int64_t>(hn::Lanes(full)) == 0) {
    body(full);
  } else {
    body(Half());
  }
}

// Four rows of four elements to columns: out[i * kTile + j] = rows[j][i].
template <typename T>
HWY_INLINE void Transpose4x4(const T* const rows[4], float* out) {
#if HWY_TARGET == HWY_SCALAR  // has no lanes to interleave
  const hn::CappedTag<float, 1> d;
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      hn::StoreU(LoadFloat(d, rows[j] + i), d, out + i * kTile + j);
    }
  }
#else
  const hn::CappedTag<float, 4> d;
  const hn::RepartitionToWide<decltype(d)> dw;
  const auto r0 = LoadFloat(d, rows[0]);
  const auto r1 = LoadFloat(d, rows[1]);
  const auto r2 = LoadFloat(d, rows[2]);
  const auto r3 = LoadFloat(d, rows[3]);
  const auto a0 = hn::BitCast(dw, hn::InterleaveLower(d, r0, r1));
  const auto a1 = hn::BitCast(dw, hn::InterleaveUpper(d, r0, r1));
  const auto b0 = hn::BitCast(dw, hn::InterleaveLower(d, r2, r3));
  const auto b1 = hn::BitCast(dw, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, a0, b0)), d, out);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, a0, b0)), d, out + kTile);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, a1, b1)), d,
             out + 2 * kTile);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, a1, b1)), d,
             out + 3 * kTile);
#endif
}

// `keys` (<= kTile) rows of head_dim elements to panel[head_dim][kTile], zeros
// beyond them.
template <typename T>
void PackTransposed(const T* rows, int64_t row_stride, int64_t keys,
                    int64_t head_dim, float* panel) {
  if (keys < kTile) std::memset(panel, 0, head_dim * kTile * sizeof(float));
  int64_t j = 0;
  for (; j + 4 <= keys; j += 4) {
    const T* r = rows + j * row_stride;
    for (int64_t i = 0; i < head_dim; i += 4) {
      const T* const four[4] = {r + i, r + row_stride + i,
                                r + 2 * row_stride + i, r + 3 * row_stride + i};
      Transpose4x4(four, panel + i * kTile + j);
    }
  }
  for (; j < keys; ++j) {
    for (int64_t i = 0; i < head_dim; ++i) {
      const hn::CappedTag<float, 1> d;
      hn::StoreU(LoadFloat(d, rows + j * row_stride + i), d,
                 panel + i * kTile + j);
    }
  }
}

// to = from * factor, n elements.
HWY_INLINE void ScaledCopy(const float* from, float factor, float* to,
                           int64_t n) {
  const F32Tag d;
  const F32Vec f = hn::Set(d, factor);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    lanes.Store(hn::Mul(lanes.Load(d, from + i), f), d, to + i);
  });
}

// Columns [begin, end) widened to whole vectors.
struct ColumnSpan {
  int64_t begin, end;
};
HWY_INLINE ColumnSpan WidenToVectors(int64_t begin, int64_t end) {
  const int64_t lanes = hn::Lanes(F32Tag());
  return {begin / lanes * lanes, (end + lanes - 1) / lanes * lanes};
}

// Lanes of columns [c, c + lanes) that lie in [begin, end).
HWY_INLINE hn::Mask<F32Tag> ColumnsIn(int64_t c, int64_t begin, int64_t end) {
  const F32Tag d;
  const hn::RebindToSigned<F32Tag> di;
  const auto column = hn::Iota(di, static_cast<int32_t>(c));
  const auto before = hn::Set(di, static_cast<int32_t>(begin - 1));
  const auto to = hn::Set(di, static_cast<int32_t>(end));
  return hn::RebindMask(d, hn::And(hn::Gt(column, before), hn::Lt(column, to)));
}

// Running softmax of one query over the tiles seen so far.
struct RowSoftmax {
  float top = -std::numeric_limits<float>::infinity();
  float sum = 0.0f;
};

// A row that sees every column of its span: masking by it costs nothing.
struct AllColumns {};
HWY_INLINE F32Vec MaskedOr(AllColumns, int64_t, F32Vec v, F32Vec) { return v; }
template <class MaskFn>
HWY_INLINE F32Vec MaskedOr(MaskFn mask, int64_t c, F32Vec v, F32Vec other) {
  return hn::IfThenElse(mask(c), v, other);
}

// Turns the scores of a row, whole vectors [span), into exp(score - top) with 0
// where mask(column) is false, and moves `state` on. Returns the factor for
// what was accumulated under the old top.
template <class MaskFn>
HWY_INLINE float SoftmaxStep(float* scores, ColumnSpan span, MaskFn mask,
                             RowSoftmax& state) {
  constexpr float kMinusInf = -std::numeric_limits<float>::infinity();
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  F32Vec tops = hn::Set(d, kMinusInf);
  for (int64_t c = span.begin; c < span.end; c += lanes) {
    tops = hn::Max(tops, MaskedOr(mask, c, hn::LoadU(d, scores + c),
                                  hn::Set(d, kMinusInf)));
  }
  const float tile_top = hn::GetLane(hn::MaxOfLanes(d, tops));
  const bool raises = tile_top > state.top || std::isnan(tile_top);
  const float top = raises ? tile_top : state.top;
  if (top == kMinusInf) {
    // Nothing visible yet: exp(-inf - -inf) would be NaN.
    std::memset(scores + span.begin, 0,
                (span.end - span.begin) * sizeof(float));
    return 1.0f;
  }
  const F32Vec shift = hn::Set(d, top);
  F32Vec sum = hn::Zero(d);
  for (int64_t c = span.begin; c < span.end; c += lanes) {
    const F32Vec e = MaskedOr(
        mask, c, Exp(d, hn::Sub(hn::LoadU(d, scores + c), shift)), hn::Zero(d));
    hn::StoreU(e, d, scores + c);
    sum = hn::Add(sum, e);
  }
  const float factor = raises ? std::exp(state.top - top) : 1.0f;
  state.top = top;
  state.sum = state.sum * factor + Sum(d, sum);
  return factor;
}

// Rows of a visit before this one see different columns.
HWY_INLINE int64_t RaggedRows(const Visit& visit) {
  return visit.window_row < visit.end_row ? visit.end_row : visit.full_row;
}

// How products cut ragged visits: blocks of so many rows, columns at multiples
// of `step`.
struct Cut {
  int64_t rows, step;
};
inline constexpr Cut kF32Cut{kBlockRows, 1};

// The columns that the rows of r's block see, or more up to the next cut: where
// ragged rows are multiplied as a block, their weights are zero in what a row
// does not see.
HWY_INLINE ColumnSpan BlockColumns(const Visit& visit, Cut cut, int64_t row) {
  const int64_t ragged = RaggedRows(visit);
  if (row >= ragged) return {visit.begin, visit.end};
  const int64_t first = row - (row - visit.first_row) % cut.rows;
  const int64_t last = std::min(first + cut.rows, ragged) - 1;
  const int64_t end = (visit.Limit(last) + cut.step - 1) / cut.step * cut.step;
  return {std::max(visit.begin, visit.Begin(first) / cut.step * cut.step),
          std::min(visit.end, end)};
}

// Calls add(row, rows, begin, end) with blocks that cover the columns
// [Begin(r), Limit(r)) of the rows of a visit, ascending for each row and cut
// at multiples of cut.step only. `may_multiply_zeros`: a block may hold columns
// that a row does not see, where its weights are zero. Not where such a column
// holds a NaN or Inf, which must not reach the row; the sums have the same bits
// either way.
template <class Add>
HWY_INLINE void ForEachVisibleBlock(const Visit& visit, Cut cut,
                                    bool may_multiply_zeros, Add add) {
  const int64_t ragged = RaggedRows(visit);
  const int64_t step = cut.step;
  for (int64_t r = visit.first_row; r < ragged; r += cut.rows) {
    const int64_t count = std::min(cut.rows, ragged - r);
    if (may_multiply_zeros) {
      const ColumnSpan columns = BlockColumns(visit, cut, r);
      add(r, count, columns.begin, columns.end);
      continue;
    }
    // What every row of the block sees; the last begins last.
    const int64_t common_end = visit.Limit(r) / step * step;
    const int64_t common_begin = std::min(
        (visit.Begin(r + count - 1) + step - 1) / step * step, common_end);
    for (int64_t i = r; i < r + count; ++i) {
      add(i, 1, visit.Begin(i), common_begin);
    }
    add(r, count, common_begin, common_end);
    for (int64_t i = r; i < r + count; ++i) {
      add(i, 1, std::max(common_end, visit.Begin(i)), visit.Limit(i));
    }
  }
  if (ragged < visit.end_row) {
    add(ragged, visit.end_row - ragged, visit.begin, visit.end);
  }
}

// out[r] += sum over the columns that row r sees of weights[r][c] * values[c].
template <class D, typename T>
HWY_INLINE void AccumulateRows(D d, const Visit& visit, const float* weights,
                               const T* values, int64_t value_stride,
                               float* out, int64_t head_dim,
                               bool may_multiply_zeros = false) {
  ForEachVisibleBlock(visit, kF32Cut, may_multiply_zeros,
                      [&](int64_t row, int64_t count, int64_t from, int64_t to)
                          HWY_ATTR {
                            if (from >= to) return;
                            const GemmTile<T> tile{weights + row * kTile + from,
                                                   kTile,
                                                   1,
                                                   values + from * value_stride,
                                                   value_stride,
                                                   out + row * head_dim,
                                                   head_dim,
                                                   to - from,
                                                   true};
                            MicroGemm(d, tile, count, head_dim);
                          });
}

// scores[r][c] = a[r] . column c of the transposed panel, for the rows and
// whole vectors of columns of the visit.
HWY_INLINE void ScoreRows(const Visit& visit, const float* a,
                          const float* panel, float* scores, int64_t head_dim) {
  const ColumnSpan span = WidenToVectors(visit.begin, visit.end);
  const int64_t r = visit.first_row;
  const GemmTile<float> tile{a + r * head_dim,
                             head_dim,
                             1,
                             panel + span.begin,
                             kTile,
                             scores + r * kTile + span.begin,
                             kTile,
                             head_dim,
                             false};
  MicroGemm(F32Tag(), tile, visit.end_row - r, span.end - span.begin);
}

#if HWY_TARGET == HWY_AVX3
// The products of bf16 pairs (bf16_gemm.h) that the processor has: in AMX
// tiles, for which the thread must have a TileScope, or in vectors.
struct PairProducts {
  bool in_tiles;

  Cut cut() const {
    // Products in tiles take two tiles of rows at a time.
    return in_tiles ? Cut{2 * kTileRows, kTileElements} : Cut{kBlockRows, 2};
  }
  void Gemm(const Bf16GemmTile& tile, int64_t begin, int64_t end, int64_t rows,
            int64_t cols) const {
    if (in_tiles) {
      AmxTileGemm(tile, begin, end, rows, cols);
    } else {
      Bf16Gemm(tile, begin, end, rows, cols);
    }
  }
};

// Products of pairs leave the scale out of the scores, so that queries are
// rounded as they are; the softmax multiplies by its size and log2(e) (never by
// zero, which makes NaN of -inf), the queries have its sign.
HWY_INLINE float ExponentFactor(float scale) {
  constexpr float kLog2E = 1.44269504088896341f;
  return std::max(std::abs(scale) * kLog2E, std::numeric_limits<float>::min());
}
HWY_INLINE void LoadScoreRow(const float* query, float scale, int64_t head_dim,
                             int64_t pair_dim, Bf16Pair* pairs) {
  ToBf16Row(query, scale < 0.0f ? -1.0f : 1.0f,
            reinterpret_cast<bf16_t*>(pairs), head_dim);
  std::fill(pairs + head_dim / 2, pairs + pair_dim / 2, 0);
}

// AccumulateRows with pairs. Row r of `weights` is kTile / 2 of them.
HWY_INLINE void AccumulateRowPairs(PairProducts products, const Visit& visit,
                                   const Bf16Pair* weights,
                                   const Bf16Pair* values, float* out,
                                   int64_t pair_dim, bool may_multiply_zeros) {
  ForEachVisibleBlock(
      visit, products.cut(), may_multiply_zeros,
      [&](int64_t row, int64_t count, int64_t from, int64_t to) {
        const Bf16GemmTile tile{
            weights + row * (kTile / 2), kTile / 2, 1,   values, pair_dim,
            out + row * pair_dim,        pair_dim,  true};
        if (from < to) products.Gemm(tile, from, to, count, pair_dim);
      });
}

// `a` has pair_dim / 2 pairs a row.
HWY_INLINE void ScoreRowPairs(PairProducts products, const Visit& visit,
                              const Bf16Pair* a, const Bf16Pair* panel,
                              float* scores, int64_t pair_dim) {
  const ColumnSpan span = WidenToVectors(visit.begin, visit.end);
  const int64_t r = visit.first_row;
  const Bf16GemmTile tile{a + r * (pair_dim / 2),
                          pair_dim / 2,
                          1,
                          panel + span.begin,
                          kTile,
                          scores + r * kTile + span.begin,
                          kTile,
                          false};
  products.Gemm(tile, 0, pair_dim, visit.end_row - r, span.end - span.begin);
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // SINKLORA_KERNELS_ATTENTION_ATTENTION_TILE_INL_H_
