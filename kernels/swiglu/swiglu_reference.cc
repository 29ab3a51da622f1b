// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {
namespace {

double Sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace

void SwiGluForward(const SwiGluForwardParams& p) {
  for (int64_t t = 0; t < p.gate.shape[0]; ++t) {
    for (int64_t i = 0; i < p.gate.shape[1]; ++i) {
      const double gate = Load(p.gate, t, i);
      Store(p.out, gate * Sigmoid(gate) * Load(p.up, t, i), t, i);
    }
  }
}

void SwiGluBackward(const SwiGluBackwardParams& p) {
  for (int64_t t = 0; t < p.gate.shape[0]; ++t) {
    for (int64_t i = 0; i < p.gate.shape[1]; ++i) {
      const double gate = Load(p.gate, t, i);
      const double up = Load(p.up, t, i);
      const double dout = Load(p.dout, t, i);
      const double s = Sigmoid(gate);
      Store(p.dgate, dout * up * s * (1.0 + gate * (1.0 - s)), t, i);
      Store(p.dup, dout * gate * s, t, i);
    }
  }
}

}  // namespace sinklora::kernels::reference
