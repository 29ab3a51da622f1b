// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/rows.h"

namespace sinklora::kernels::cpu {
namespace {

// Tokens whose rows are summed apart; so many that the partial sums are little
// beside them.
constexpr int64_t kTokenBlock = 64;

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
  const int64_t tokens = p.dout.shape[0];
  const int64_t columns = p.dout.shape[1];
  if (columns == 0) return;
  const int64_t blocks = (tokens + kTokenBlock - 1) / kTokenBlock;
  float* partial = context.shared_scratch.Reserve<float>(blocks * columns);
  ParallelBlocks(
      context.pool, tokens, kTokenBlock, [&](int64_t begin, int64_t end, int) {
        float* sum = partial + begin / kTokenBlock * columns;
        std::memset(sum, 0, columns * sizeof(float));
        AddRows(At(p.dout, begin), p.dout.stride[0], end - begin, sum, columns);
      });
  AddPartialSums(partial, blocks, p.dbias.as<float>(), columns, context.pool);
}

}  // namespace sinklora::kernels::cpu
