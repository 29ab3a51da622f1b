// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {

void EmbeddingForward(const EmbeddingForwardParams& p) {
  for (int64_t t = 0; t < p.ids.shape[0]; ++t) {
    for (int64_t i = 0; i < p.table.shape[1]; ++i) {
      Store(p.out, Load(p.table, LoadInt(p.ids, t), i), t, i);
    }
  }
}

void EmbeddingBackward(const EmbeddingBackwardParams& p) {
  const int64_t vocab = p.dtable.shape[0];
  std::vector<double> column(vocab);
  for (int64_t i = 0; i < p.dtable.shape[1]; ++i) {
    for (int64_t v = 0; v < vocab; ++v) column[v] = Load(p.dtable, v, i);
    for (int64_t t = 0; t < p.ids.shape[0]; ++t) {
      column[LoadInt(p.ids, t)] += Load(p.dout, t, i);
    }
    for (int64_t v = 0; v < vocab; ++v) Store(p.dtable, column[v], v, i);
  }
}

}  // namespace sinklora::kernels::reference
