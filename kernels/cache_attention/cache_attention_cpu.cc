// Serving attention over slots. Rows are (token, query head of the group) pairs
// in that order; a task takes up to kTile rows of one kv head over all slots in
// tiles of kTile. Tiles and the chain of operations of a row are fixed by the
// slots alone, so a row has the same bits in a batch of any size.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/attention/attention_plan.h"
#include "kernels/cache_attention/cache_row_cpu.h"
#include "kernels/cache_attention/int8_row.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cache_attention/cache_attention_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"
#include "kernels/attention/attention_tile-inl.h"
#include "kernels/cache_attention/visible_slots-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

template <typename T>
inline constexpr bool kIsCoded = std::is_same_v<T, int8_t>;

// Slots [first, first + count) of one kv head.
template <typename T>
struct SlotTile {
  const T* k;
  const T* v;
  int64_t k_stride, v_stride;
  int64_t count;
  int32_t positions[kTile];  // -1 beyond count
  int32_t oldest;            // smallest valid position, or INT32_MAX
  int32_t newest;            // largest, or -1
  bool has_empty;            // some slot in [0, count) holds no token
  // With codes: of each slot, 0 for those without a token.
  float k_scale[kIsCoded<T> ? kTile : 1];
  float v_scale[kIsCoded<T> ? kTile : 1];
};

template <typename T>
SlotTile<T> TileAt(const CacheView& cache, int64_t kv_head, int64_t first) {
  SlotTile<T> tile;
  tile.count = std::min(kTile, cache.used - first);
  tile.k_stride = cache.k.stride[1];
  tile.v_stride = cache.v.stride[1];
  tile.k =
      cache.k.as<T>() + kv_head * cache.k.stride[0] + first * tile.k_stride;
  tile.v =
      cache.v.as<T>() + kv_head * cache.v.stride[0] + first * tile.v_stride;
  const int32_t* positions = cache.positions.as<int32_t>() +
                             kv_head * cache.positions.stride[0] + first;
  tile.oldest = std::numeric_limits<int32_t>::max();
  tile.newest = -1;
  tile.has_empty = false;
  for (int64_t j = 0; j < kTile; ++j) {
    tile.positions[j] = j < tile.count ? positions[j] : -1;
    const bool empty = tile.positions[j] < 0;
    if (empty && j < tile.count) tile.has_empty = true;
    if (!empty) tile.oldest = std::min(tile.oldest, tile.positions[j]);
    tile.newest = std::max(tile.newest, tile.positions[j]);
    if constexpr (kIsCoded<T>) {
      tile.k_scale[j] = empty ? 0.0f : At(cache.k_scale, kv_head)[first + j];
      tile.v_scale[j] = empty ? 0.0f : At(cache.v_scale, kv_head)[first + j];
    }
  }
  return tile;
}

// Rows [first_row, first_row + rows) of one kv head: row = token * group + head
// of the group.
struct RowBlock {
  int64_t kv_head, group;
  int64_t first_row, rows;
  Seen seen;  // by any of them

  int64_t Token(int64_t r) const { return (first_row + r) / group; }
  int64_t Head(int64_t r) const {
    return kv_head * group + (first_row + r) % group;
  }
};

template <typename P>
RowBlock BlockAt(const P& p, int64_t kv_head, int64_t first_row) {
  const int64_t group = p.q.shape[1] / p.cache.k.shape[0];
  RowBlock block{
      kv_head, group, first_row, 0, {std::numeric_limits<int32_t>::max(), -1}};
  block.rows = std::min(kTile, p.q.shape[0] * group - first_row);
  for (int64_t r = 0; r < block.rows; ++r) {
    const Seen seen =
        SeenFrom(p.position.template as<int32_t>()[block.Token(r)], p.window);
    block.seen.first = std::min(block.seen.first, seen.first);
    block.seen.last = std::max(block.seen.last, seen.last);
  }
  return block;
}

// Whether no row of the block sees a slot of the tile.
template <typename T>
bool OutOfSight(const SlotTile<T>& tile, const RowBlock& block) {
  return tile.oldest > block.seen.last || tile.newest < block.seen.first;
}

// Scaled queries of a block, [rows][head_dim].
template <typename P>
void GatherQueries(const P& p, const RowBlock& block, float* queries) {
  const int64_t head_dim = p.q.shape[2];
  for (int64_t r = 0; r < block.rows; ++r) {
    ScaledCopy(At(p.q, block.Token(r), block.Head(r)), p.scale,
               queries + r * head_dim, head_dim);
  }
}

// row *= factors for the whole vectors of `span`.
HWY_INLINE void ScaleRow(float* row, const float* factors, ColumnSpan span) {
  const F32Tag d;
  for (int64_t c = span.begin; c < span.end; c += hn::Lanes(d)) {
    hn::StoreU(hn::Mul(hn::LoadU(d, row + c), hn::LoadU(d, factors + c)), d,
               row + c);
  }
}

// A visit of all columns by all rows: no diagonals, masks do the rest.
Visit WholeVisit(int64_t rows, int64_t columns) {
  Visit visit;
  visit.end = columns;
  visit.diagonal = columns;
  visit.window_row = visit.end_row = rows;
  return visit;
}

// Value rows of a tile as f32 with zeros for empty slots: what an empty slot
// holds is undefined, and 0 * NaN is NaN.
template <typename T>
void PackValues(const SlotTile<T>& tile, int64_t head_dim, float* values) {
  for (int64_t j = 0; j < tile.count; ++j) {
    float* to = values + j * head_dim;
    if (tile.positions[j] < 0) {
      std::memset(to, 0, head_dim * sizeof(float));
      continue;
    }
    const T* from = tile.v + j * tile.v_stride;
    const Half d;
    for (int64_t i = 0; i < head_dim; i += hn::Lanes(d)) {
      hn::StoreU(LoadFloat(d, from + i), d, to + i);
    }
  }
}

struct AttendBuffers {
  float* queries;  // [kTile][head_dim]
  float* sums;     // [kTile][head_dim]
  float* keys;     // [head_dim][kTile]
  float* values;   // [kTile][head_dim]
  float* scores;   // [kTile][kTile]
  RowSoftmax rows[kTile];
};

AttendBuffers BuffersIn(float* scratch, int64_t head_dim) {
  AttendBuffers b;
  b.queries = scratch;
  b.sums = b.queries + kTile * head_dim;
  b.keys = b.sums + kTile * head_dim;
  b.values = b.keys + kTile * head_dim;
  b.scores = b.values + kTile * head_dim;
  return b;
}

template <class D, typename T>
void AttendTile(D d, const CacheAttentionParams& p, const RowBlock& block,
                const SlotTile<T>& tile, AttendBuffers& b) {
  const int64_t head_dim = p.q.shape[2];
  const Visit visit = WholeVisit(block.rows, tile.count);
  PackTransposed(tile.k, tile.k_stride, tile.count, head_dim, b.keys);
  ScoreRows(visit, b.queries, b.keys, b.scores, head_dim);
  const ColumnSpan span = WidenToVectors(0, tile.count);
  const int32_t* position = p.position.as<int32_t>();
  for (int64_t r = 0; r < block.rows; ++r) {
    const Seen seen = SeenFrom(position[block.Token(r)], p.window);
    const auto mask = [&](int64_t c) {
      return VisibleSlots(tile.positions, c, seen);
    };
    float* scores = b.scores + r * kTile;
    // Products with codes become products with what they stand for.
    if constexpr (kIsCoded<T>) ScaleRow(scores, tile.k_scale, span);
    const float factor = SoftmaxStep(scores, span, mask, b.rows[r]);
    if constexpr (kIsCoded<T>) ScaleRow(scores, tile.v_scale, span);
    float* sums = b.sums + r * head_dim;
    if (factor != 1.0f) ScaledCopy(sums, factor, sums, head_dim);
  }
  // Codes of empty slots are finite, whatever they are, and weigh 0.
  if (tile.has_empty && !kIsCoded<T>) {
    PackValues(tile, head_dim, b.values);
    AccumulateRows(d, visit, b.scores, b.values, head_dim, b.sums, head_dim);
  } else {
    AccumulateRows(d, visit, b.scores, tile.v, tile.v_stride, b.sums, head_dim);
  }
}

template <typename T>
void AttendBlockT(const CacheAttentionParams& p, int64_t kv_head,
                  int64_t first_row, float* scratch) {
  const int64_t head_dim = p.q.shape[2];
  const RowBlock block = BlockAt(p, kv_head, first_row);
  AttendBuffers b = BuffersIn(scratch, head_dim);
  GatherQueries(p, block, b.queries);
  std::memset(b.sums, 0, block.rows * head_dim * sizeof(float));
  for (int64_t first = 0; first < p.cache.used; first += kTile) {
    const SlotTile<T> tile = TileAt<T>(p.cache, kv_head, first);
    if (OutOfSight(tile, block)) continue;  // changes no row
    WithHeadTag(head_dim, [&](auto d) { AttendTile(d, p, block, tile, b); });
  }
  for (int64_t r = 0; r < block.rows; ++r) {
    const RowSoftmax& row = b.rows[r];
    ScaledCopy(b.sums + r * head_dim, 1.0f / row.sum,
               At(p.out, block.Token(r), block.Head(r)), head_dim);
    if (p.lse.empty()) continue;
    At(p.lse, block.Head(r))[block.Token(r)] = row.top + std::log(row.sum);
  }
}

void AttendBlock(const CacheAttentionParams& p, int64_t kv_head,
                 int64_t first_row, float* scratch) {
  if (p.cache.k.dtype == DType::kBF16) {
    AttendBlockT<bf16_t>(p, kv_head, first_row, scratch);
  } else if (p.cache.k.dtype == DType::kI8) {
    AttendBlockT<int8_t>(p, kv_head, first_row, scratch);
  } else {
    AttendBlockT<float>(p, kv_head, first_row, scratch);
  }
}

// sums[c] += the probabilities of a block's rows, row after row.
HWY_INLINE void AddProbabilities(const CacheColumnSumsParams& p,
                                 const RowBlock& block,
                                 const int32_t* positions, const float* scores,
                                 float* sums) {
  const F32Tag d;
  const int64_t lanes = hn::Lanes(d);
  const int32_t* position = p.position.as<int32_t>();
  for (int64_t c = 0; c < kTile; c += lanes) {
    F32Vec sum = hn::LoadU(d, sums + c);
    for (int64_t r = 0; r < block.rows; ++r) {
      const int64_t token = block.Token(r);
      const float lse = At(p.lse, block.Head(r))[token];
      const F32Vec score = hn::LoadU(d, scores + r * kTile + c);
      const Seen seen = SeenFrom(position[token], p.window);
      sum = hn::Add(
          sum, hn::IfThenElseZero(VisibleSlots(positions, c, seen),
                                  Exp(d, hn::Sub(score, hn::Set(d, lse)))));
    }
    hn::StoreU(sum, d, sums + c);
  }
}

template <typename T>
void ColumnSumsTileT(const CacheColumnSumsParams& p, int64_t kv_head,
                     int64_t first, float* scratch) {
  const int64_t head_dim = p.q.shape[2];
  const int64_t rows = p.q.shape[0] * (p.q.shape[1] / p.cache.k.shape[0]);
  const AttendBuffers b = BuffersIn(scratch, head_dim);
  const SlotTile<T> tile = TileAt<T>(p.cache, kv_head, first);
  PackTransposed(tile.k, tile.k_stride, tile.count, head_dim, b.keys);
  float* saved = At(p.scores, kv_head, first);
  float sums[kTile] = {};
  std::memcpy(sums, saved, tile.count * sizeof(float));
  for (int64_t row = 0; row < rows; row += kTile) {
    const RowBlock block = BlockAt(p, kv_head, row);
    if (OutOfSight(tile, block)) continue;  // adds zeros only
    GatherQueries(p, block, b.queries);
    ScoreRows(WholeVisit(block.rows, kTile), b.queries, b.keys, b.scores,
              head_dim);
    if constexpr (kIsCoded<T>) {
      for (int64_t r = 0; r < block.rows; ++r) {
        ScaleRow(b.scores + r * kTile, tile.k_scale, {0, kTile});
      }
    }
    AddProbabilities(p, block, tile.positions, b.scores, sums);
  }
  std::memcpy(saved, sums, tile.count * sizeof(float));
}

void ColumnSumsTile(const CacheColumnSumsParams& p, int64_t kv_head,
                    int64_t first, float* scratch) {
  if (p.cache.k.dtype == DType::kBF16) {
    ColumnSumsTileT<bf16_t>(p, kv_head, first, scratch);
  } else if (p.cache.k.dtype == DType::kI8) {
    ColumnSumsTileT<int8_t>(p, kv_head, first, scratch);
  } else {
    ColumnSumsTileT<float>(p, kv_head, first, scratch);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(AttendBlock);
HWY_EXPORT(ColumnSumsTile);

namespace {

char* SlotPointer(const TensorView& x, int64_t kv_head, int64_t slot) {
  return x.as<char>() +
         (kv_head * x.stride[0] + slot * x.stride[1]) * SizeOf(x.dtype);
}

// Runs kernel(p, kv_head, item, scratch) for each kv head and each kTile-th
// item of [0, items).
template <typename Params, typename Kernel>
void ForEachHeadTile(const Params& p, int64_t items, CpuContext& context,
                     Kernel kernel) {
  const int64_t tiles = (items + kTile - 1) / kTile;
  const int64_t head_dim = p.q.shape[2];
  context.pool.Run(p.cache.k.shape[0] * tiles, [&](int64_t i, int thread) {
    float* scratch = context.thread_scratch[thread].Reserve<float>(
        kTile * (4 * head_dim + kTile));
    kernel(p, i / tiles, i % tiles * kTile, scratch);
  });
}

void MoveRow(const TensorView& x, const TensorView& scale, int64_t kv_head,
             int64_t from, int64_t to) {
  std::memcpy(SlotPointer(x, kv_head, to), SlotPointer(x, kv_head, from),
              x.shape[2] * SizeOf(x.dtype));
  if (scale.empty()) return;
  At(scale, kv_head)[to] = At(scale, kv_head)[from];
}

void WriteHead(const CacheWriteParams& p, int64_t h) {
  const int32_t* slots = p.slots.as<int32_t>() + h * p.slots.stride[0];
  int32_t* positions =
      p.cache.positions.as<int32_t>() + h * p.cache.positions.stride[0];
  for (int64_t t = 0; t < p.k.shape[0]; ++t) {
    WriteCacheRow(At(p.k, t, h), h, slots[t], p.cache.k, p.cache.k_scale);
    WriteCacheRow(At(p.v, t, h), h, slots[t], p.cache.v, p.cache.v_scale);
    positions[slots[t]] = p.position.as<int32_t>()[t];
  }
}

void CompactHead(const CacheCompactParams& p, int64_t h) {
  const int32_t* keep = p.keep.as<int32_t>() + h * p.keep.stride[0];
  int32_t* positions =
      p.cache.positions.as<int32_t>() + h * p.cache.positions.stride[0];
  float* scores = p.scores.empty() ? nullptr : At(p.scores, h);
  const int64_t kept = p.keep.shape[1];
  // keep ascends, so keep[i] >= i and nothing is overwritten before it moves.
  for (int64_t i = 0; i < kept; ++i) {
    if (keep[i] == i) continue;
    MoveRow(p.cache.k, p.cache.k_scale, h, keep[i], i);
    MoveRow(p.cache.v, p.cache.v_scale, h, keep[i], i);
    positions[i] = positions[keep[i]];
    if (scores != nullptr) scores[i] = scores[keep[i]];
  }
  for (int64_t i = kept; i < p.cache.k.shape[1]; ++i) {
    positions[i] = -1;
    if (scores != nullptr) scores[i] = 0.0f;
  }
}

}  // namespace

void WriteCacheRow(const float* from, int64_t kv_head, int64_t slot,
                   const TensorView& to, const TensorView& scale) {
  const int64_t head_dim = to.shape[2];
  char* at = SlotPointer(to, kv_head, slot);
  if (to.dtype == DType::kI8) {
    At(scale, kv_head)[slot] =
        EncodeInt8Row(from, head_dim, reinterpret_cast<int8_t*>(at));
  } else {
    CopyElements(from, DType::kF32, at, to.dtype, head_dim);
  }
}

void CacheWrite(const CacheWriteParams& p, CpuContext& context) {
  const int64_t row_elements = p.k.shape[0] * p.k.shape[2] * 2;
  ParallelBlocks(context.pool, p.k.shape[1], RowsPerTask(row_elements),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t h = begin; h < end; ++h) WriteHead(p, h);
                 });
}

void CacheAttention(const CacheAttentionParams& p, CpuContext& context) {
  const int64_t group = p.q.shape[1] / p.cache.k.shape[0];
  ForEachHeadTile(
      p, p.q.shape[0] * group, context,
      [](const auto& params, int64_t head, int64_t row, float* scratch) {
        HWY_DYNAMIC_DISPATCH(AttendBlock)
        (params, head, row, scratch);
      });
}

void CacheColumnSums(const CacheColumnSumsParams& p, CpuContext& context) {
  ForEachHeadTile(
      p, p.cache.used, context,
      [](const auto& params, int64_t head, int64_t slot, float* scratch) {
        HWY_DYNAMIC_DISPATCH(ColumnSumsTile)
        (params, head, slot, scratch);
      });
}

void CacheCompact(const CacheCompactParams& p, CpuContext& context) {
  ParallelBlocks(context.pool, p.cache.k.shape[0],
                 RowsPerTask(p.keep.shape[1] * p.cache.k.shape[2] * 2),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t h = begin; h < end; ++h) CompactHead(p, h);
                 });
}

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
