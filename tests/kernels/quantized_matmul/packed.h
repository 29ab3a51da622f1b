// Owning packed matrices for tests.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_KERNELS_QUANTIZED_MATMUL_PACKED_H_
#define SINKLORA_TESTS_KERNELS_QUANTIZED_MATMUL_PACKED_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>

#include "kernels/cpu/cpu_isa.h"
#include "tests/kernels/backends.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {

inline const char* NameOf(QuantizedFormat format) {
  return format == QuantizedFormat::kInt8 ? "int8" : "int4";
}

// A packed matrix in memory of `backend`.
struct Packed {
  Buffer buffer;
  QuantizedMatrix view;
};

inline Packed Pack(Backend& backend, const testing::HostTensor& weight,
                   QuantizedFormat format) {
  const ConstTensorView w = weight.view();
  Packed out;
  const int64_t bytes = QuantizedBytes(format, w.shape[0], w.shape[1]);
  EXPECT_TRUE(Ok(backend.Allocate(bytes, &out.buffer)));
  std::memset(out.buffer.data(), 0xff, bytes);
  EXPECT_TRUE(Ok(backend.Quantize(
      {.weight = w, .format = format, .out = out.buffer.data()})));
  out.view = {out.buffer.data(), format, w.shape[0], w.shape[1]};
  return out;
}

inline double Value(const QuantizedMatrix& m, int64_t row, int64_t col) {
  return double{QuantizedScale(m, row, col)} * QuantizedLevel(m, row, col);
}

// What f32 products may be off for rounding activations to bytes, where the
// tested backend does (byte_product.h): each of a row's k is off by up to 2^-15
// of the largest of its block, evenly spread, and meets a weight of size
// `weight`; six deviations of the sum of k such errors.
inline double ActivationRounding(const testing::HostTensor& a, double weight) {
  if (std::string_view(kTested) != "cpu" ||
      cpu::ActiveCpuIsa() < cpu::CpuIsa::kAvx512Bf16) {
    return 0;
  }
  const int64_t k = a.view().shape[1];
  double largest = 0;
  for (int64_t i = 0; i < a.view().shape[0]; ++i) {
    for (int64_t c = 0; c < k; ++c) {
      largest = std::max(largest, std::abs(a.Get(i, c)));
    }
  }
  return 6 * 0x1p-15 / std::sqrt(3.0) * largest * weight *
         std::sqrt(static_cast<double>(k));
}

}  // namespace sinklora::kernels

#endif  // SINKLORA_TESTS_KERNELS_QUANTIZED_MATMUL_PACKED_H_
