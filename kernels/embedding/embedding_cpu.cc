// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/rows.h"

namespace sinklora::kernels::cpu {
namespace {

// Columns that a task adds up for each of its ids.
constexpr int64_t kColumnBlock = 512;
constexpr int64_t kIdsPerTask = 16;

// The tokens of each id, as lists in token order.
struct TokensById {
  int32_t* first;  // [vocab]: the first token of an id, or -1
  int32_t* next;   // [tokens]: the next token of the same id, or -1
  int32_t* ids;    // the ids that occur, by their first token
  int64_t num_ids = 0;
};

TokensById GroupById(const ConstTensorView& ids, int64_t vocab,
                     Scratch& scratch) {
  const int64_t tokens = ids.shape[0];
  TokensById x;
  x.first = scratch.Reserve<int32_t>(vocab + 2 * tokens);
  x.next = x.first + vocab;
  x.ids = x.next + tokens;
  std::fill_n(x.first, vocab, -1);
  const int32_t* id = ids.as<int32_t>();
  for (int64_t t = tokens - 1; t >= 0; --t) {
    x.next[t] = x.first[id[t]];
    x.first[id[t]] = static_cast<int32_t>(t);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    if (x.first[id[t]] == t) x.ids[x.num_ids++] = id[t];
  }
  return x;
}

}  // namespace

void EmbeddingForward(const EmbeddingForwardParams& p, CpuContext& context) {
  const int64_t dim = p.table.shape[1];
  const int64_t row_bytes = p.table.stride[0] * SizeOf(p.table.dtype);
  const int32_t* ids = p.ids.as<int32_t>();
  ParallelBlocks(context.pool, p.ids.shape[0], RowsPerTask(dim),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = begin; t < end; ++t) {
                     CopyElements(p.table.as<char>() + ids[t] * row_bytes,
                                  p.table.dtype, At(p.out, t), DType::kF32,
                                  dim);
                   }
                 });
}

void EmbeddingBackward(const EmbeddingBackwardParams& p, CpuContext& context) {
  const TokensById tokens =
      GroupById(p.ids, p.dtable.shape[0], context.shared_scratch);
  const int64_t dim = p.dtable.shape[1];
  const int64_t id_blocks = (tokens.num_ids + kIdsPerTask - 1) / kIdsPerTask;
  const int64_t column_blocks = (dim + kColumnBlock - 1) / kColumnBlock;
  context.pool.Run(id_blocks * column_blocks, [&](int64_t task, int) {
    const int64_t column = task % column_blocks * kColumnBlock;
    const int64_t begin = task / column_blocks * kIdsPerTask;
    const int64_t end = std::min(tokens.num_ids, begin + kIdsPerTask);
    for (int64_t i = begin; i < end; ++i) {
      float* row = At(p.dtable, tokens.ids[i], column);
      for (int32_t t = tokens.first[tokens.ids[i]]; t >= 0;
           t = tokens.next[t]) {
        AddRow(At(p.dout, t, column), row,
               std::min(kColumnBlock, dim - column));
      }
    }
  });
}

}  // namespace sinklora::kernels::cpu
