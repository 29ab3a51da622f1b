// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rows.h"

namespace sinklora::kernels::cpu {
namespace {

// Columns of dbias a task owns; it walks all tokens, so their order is fixed.
constexpr int64_t kColumnBlock = 64;

void AddRow(const float* x, float* sum, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
}

}  // namespace

void BiasForward(const BiasForwardParams& p, CpuContext& context) {
  const int64_t columns = p.out.shape[1];
  ParallelBlocks(context.pool, p.out.shape[0], RowsPerTask(columns),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = begin; t < end; ++t) {
                     AddRow(p.bias.as<float>(), At(p.out, t), columns);
                   }
                 });
}

void BiasBackward(const BiasBackwardParams& p, CpuContext& context) {
  ParallelBlocks(context.pool, p.dout.shape[1], kColumnBlock,
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t t = 0; t < p.dout.shape[0]; ++t) {
                     AddRow(At(p.dout, t) + begin, p.dbias.as<float>() + begin,
                            end - begin);
                   }
                 });
}

}  // namespace sinklora::kernels::cpu
