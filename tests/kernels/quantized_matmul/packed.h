// Owning packed matrices for tests.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_KERNELS_QUANTIZED_MATMUL_PACKED_H_
#define SINKLORA_TESTS_KERNELS_QUANTIZED_MATMUL_PACKED_H_

#include <gtest/gtest.h>

#include <cstring>
#include <string>

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

}  // namespace sinklora::kernels

#endif  // SINKLORA_TESTS_KERNELS_QUANTIZED_MATMUL_PACKED_H_
