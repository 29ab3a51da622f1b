// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/reference/access.h"
#include "kernels/reference/reference_ops.h"

namespace sinklora::kernels::reference {

void SumSquares(const SumSquaresParams& p) {
  double sum = 0.0;
  for (int64_t i = 0; i < p.x.num_elements(); ++i) {
    const double x = p.x.as<float>()[i];
    sum += x * x;
  }
  *p.result = sum;
}

void ZeroRows(const ZeroRowsParams& p) {
  const int64_t columns = p.x.shape[1];
  for (int64_t i = 0; i < p.rows.shape[0]; ++i) {
    float* row = p.x.as<float>() + p.rows.as<int32_t>()[i] * columns;
    for (int64_t j = 0; j < columns; ++j) row[j] = 0.0f;
  }
}

void Scale(const ScaleParams& p) {
  for (int64_t i = 0; i < p.x.num_elements(); ++i) {
    p.x.as<float>()[i] *= p.factor;
  }
}

void ScaleColumns(const ScaleColumnsParams& p) {
  for (int64_t i = 0; i < p.x.shape[0]; ++i) {
    float* row = p.x.as<float>() + i * p.x.stride[0];
    for (int64_t j = 0; j < p.x.shape[1]; ++j) {
      row[j] *= p.factors.as<float>()[j];
    }
  }
}

void Add(const AddParams& p) {
  float* out = p.out.as<float>();
  for (int64_t i = 0; i < p.x.num_elements(); ++i) {
    out[i] = static_cast<float>(out[i] + double{p.alpha} * p.x.as<float>()[i]);
  }
}

void Cast(const CastParams& p) {
  const int64_t n = p.x.num_elements();
  if (n == 0) return;
  if (p.x.dtype == p.out.dtype) {
    std::memmove(p.out.data, p.x.data, n * SizeOf(p.x.dtype));
  } else if (p.x.dtype == DType::kF32) {
    for (int64_t i = 0; i < n; ++i) {
      p.out.as<bf16_t>()[i] = ToBf16(p.x.as<float>()[i]);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) {
      p.out.as<float>()[i] = FromBf16(p.x.as<bf16_t>()[i]);
    }
  }
}

}  // namespace sinklora::kernels::reference
