// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {

void Rope(const RopeParams& p) {
  const int64_t half = p.x.shape[2] / 2;
  for (int64_t t = 0; t < p.x.shape[0]; ++t) {
    const int64_t row = LoadInt(p.positions, t);
    for (int64_t h = 0; h < p.x.shape[1]; ++h) {
      for (int64_t i = 0; i < half; ++i) {
        const double c = Load(p.cos, row, i);
        const double s = (p.inverse ? -1.0 : 1.0) * Load(p.sin, row, i);
        const double first = Load(p.x, t, h, i);
        const double second = Load(p.x, t, h, i + half);
        Store(p.x, first * c - second * s, t, h, i);
        Store(p.x, second * c + first * s, t, h, i + half);
      }
    }
  }
}

}  // namespace sinklora::kernels::reference
