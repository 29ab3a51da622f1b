// Tensors for tests: owning host tensors with random contents, and comparisons
// that fail closed. A comparison of different shapes, of nothing at all, or of
// anything that is not finite is a failure, never a pass.
//
//   const HostTensor x = HostTensor::Random(DType::kF32, {7, 33}, /*seed=*/1);
//   EXPECT_TRUE(TensorNear(actual.view(), expected.view(), {.relative =
//   1e-6}));
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_TENSOR_NEAR_H_
#define SINKLORA_TESTS_TESTING_TENSOR_NEAR_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"
#include "tests/testing/tolerance.h"

namespace sinklora::testing {

::testing::AssertionResult TensorNear(const kernels::ConstTensorView& actual,
                                      const kernels::ConstTensorView& expected,
                                      const Tolerance& tolerance);

// Same shape, dtype and bits. NaN equals the same NaN; +0 differs from -0.
::testing::AssertionResult BitEqual(const kernels::ConstTensorView& actual,
                                    const kernels::ConstTensorView& expected);

// Element as double (i32 included). REQUIRES: indices in range.
double Element(const kernels::ConstTensorView& view, int64_t i, int64_t j = 0,
               int64_t k = 0);

// Owns a tensor of rank 1 to 3. With `padding` > 0 the data start off alignment
// and rows are `padding` elements apart; all that lies between is a canary that
// GapsUntouched() checks. Copyable.
class HostTensor {
 public:
  HostTensor() = default;
  static HostTensor Zeros(kernels::DType dtype, std::vector<int64_t> shape,
                          int64_t padding = 0);
  // Normal with standard deviation `scale`, rounded to the storage type.
  static HostTensor Random(kernels::DType dtype, std::vector<int64_t> shape,
                           uint64_t seed, double scale = 1.0,
                           int64_t padding = 0);
  static HostTensor Ints(std::vector<int64_t> shape,
                         const std::vector<int32_t>& values);
  // Every byte of every element set, to show up in results when read.
  static HostTensor NaNs(kernels::DType dtype, std::vector<int64_t> shape,
                         int64_t padding = 0);

  kernels::TensorView view();
  kernels::ConstTensorView view() const;
  double Get(int64_t i, int64_t j = 0, int64_t k = 0) const {
    return Element(view(), i, j, k);
  }
  void Set(double value, int64_t i, int64_t j = 0, int64_t k = 0);
  bool GapsUntouched() const;

 private:
  HostTensor(kernels::DType dtype, std::vector<int64_t> shape, int64_t padding);

  kernels::ConstTensorView layout_;  // data is null; bytes_ holds them
  int64_t offset_bytes_ = 0;
  std::vector<uint8_t> bytes_;
  std::vector<bool> is_element_;  // per byte
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_TESTING_TENSOR_NEAR_H_
