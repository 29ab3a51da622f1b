// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {

void RmsNormForward(const RmsNormForwardParams& p) {
  const int64_t dim = p.x.shape[1];
  for (int64_t t = 0; t < p.x.shape[0]; ++t) {
    double squares = 0.0;
    for (int64_t i = 0; i < dim; ++i) {
      squares += Load(p.x, t, i) * Load(p.x, t, i);
    }
    const double inv_rms = 1.0 / std::sqrt(squares / dim + p.eps);
    for (int64_t i = 0; i < dim; ++i) {
      Store(p.out, Load(p.x, t, i) * inv_rms * Load(p.weight, i), t, i);
    }
    if (!p.inv_rms.empty()) Store(p.inv_rms, inv_rms, t);
  }
}

// With r = inv_rms and y = x * r: dx = r * (w * dout - y * mean(w * dout * y)).
void RmsNormBackward(const RmsNormBackwardParams& p) {
  const int64_t tokens = p.x.shape[0];
  const int64_t dim = p.x.shape[1];
  for (int64_t t = 0; t < tokens; ++t) {
    const double r = Load(p.inv_rms, t);
    double dot = 0.0;
    for (int64_t i = 0; i < dim; ++i) {
      dot += Load(p.weight, i) * Load(p.dout, t, i) * Load(p.x, t, i) * r;
    }
    for (int64_t i = 0; i < dim; ++i) {
      const double gradient = r * (Load(p.weight, i) * Load(p.dout, t, i) -
                                   Load(p.x, t, i) * r * dot / dim);
      const double before = p.accumulate_dx ? Load(p.dx, t, i) : 0.0;
      Store(p.dx, before + gradient, t, i);
    }
  }
  if (p.dweight.empty()) return;
  for (int64_t i = 0; i < dim; ++i) {
    double sum = 0.0;
    for (int64_t t = 0; t < tokens; ++t) {
      sum += Load(p.dout, t, i) * Load(p.x, t, i) * Load(p.inv_rms, t);
    }
    Store(p.dweight, Load(p.dweight, i) + sum, i);
  }
}

}  // namespace sinklora::kernels::reference
