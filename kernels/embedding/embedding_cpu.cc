// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

namespace sinklora::kernels::cpu {
namespace {

// Columns of dtable a task owns; it walks all tokens, so their order is fixed.
constexpr int64_t kColumnBlock = 64;

void AddRow(const float* x, float* sum, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
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
  const int32_t* ids = p.ids.as<int32_t>();
  ParallelBlocks(context.pool, p.dtable.shape[1], kColumnBlock,
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = 0; t < p.ids.shape[0]; ++t) {
                     AddRow(At(p.dout, t) + begin, At(p.dtable, ids[t]) + begin,
                            end - begin);
                   }
                 });
}

}  // namespace sinklora::kernels::cpu
