// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {

void BiasForward(const BiasForwardParams& p) {
  for (int64_t t = 0; t < p.out.shape[0]; ++t) {
    for (int64_t i = 0; i < p.out.shape[1]; ++i) {
      Store(p.out, Load(p.out, t, i) + Load(p.bias, i), t, i);
    }
  }
}

void BiasBackward(const BiasBackwardParams& p) {
  for (int64_t i = 0; i < p.dout.shape[1]; ++i) {
    double sum = Load(p.dbias, i);
    for (int64_t t = 0; t < p.dout.shape[0]; ++t) sum += Load(p.dout, t, i);
    Store(p.dbias, sum, i);
  }
}

}  // namespace sinklora::kernels::reference
