// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/tensor_near.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace sinklora::testing {
namespace {

using kernels::DType;

constexpr Tolerance kLoose{.absolute = 1e9};

TEST(TensorNearTest, AcceptsWithinAndRefusesBeyondTheLimit) {
  const HostTensor expected = HostTensor::Random(DType::kF32, {3, 5}, 1);
  HostTensor actual = expected;
  EXPECT_TRUE(TensorNear(actual.view(), expected.view(), {}));
  actual.Set(expected.Get(2, 4) + 0.5, 2, 4);
  EXPECT_TRUE(TensorNear(actual.view(), expected.view(), {.absolute = 0.6}));
  EXPECT_FALSE(TensorNear(actual.view(), expected.view(), {.absolute = 0.4}));
}

TEST(TensorNearTest, FailsOnNonFiniteOnEitherSide) {
  const HostTensor good = HostTensor::Zeros(DType::kF32, {4});
  for (double bad : {std::nan(""), std::numeric_limits<double>::infinity(),
                     -std::numeric_limits<double>::infinity()}) {
    HostTensor broken = good;
    broken.Set(bad, 3);
    EXPECT_FALSE(TensorNear(broken.view(), good.view(), kLoose));
    EXPECT_FALSE(TensorNear(good.view(), broken.view(), kLoose));
    EXPECT_FALSE(TensorNear(broken.view(), broken.view(), kLoose));
  }
}

TEST(TensorNearTest, FailsOnNaNTolerance) {
  const HostTensor x = HostTensor::Zeros(DType::kF32, {4});
  EXPECT_FALSE(TensorNear(x.view(), x.view(), {.absolute = std::nan("")}));
}

TEST(TensorNearTest, FailsOnShapeMismatchAndOnNothing) {
  const HostTensor a = HostTensor::Zeros(DType::kF32, {2, 3});
  const HostTensor b = HostTensor::Zeros(DType::kF32, {3, 2});
  const HostTensor flat = HostTensor::Zeros(DType::kF32, {6});
  const HostTensor none = HostTensor::Zeros(DType::kF32, {0, 3});
  EXPECT_FALSE(TensorNear(a.view(), b.view(), kLoose));
  EXPECT_FALSE(TensorNear(a.view(), flat.view(), kLoose));
  EXPECT_FALSE(TensorNear(none.view(), none.view(), kLoose));
  EXPECT_FALSE(BitEqual(none.view(), none.view()));
  EXPECT_FALSE(BitEqual(a.view(), b.view()));
  EXPECT_FALSE(TensorNear({}, {}, kLoose));
}

TEST(BitEqualTest, SeesSignOfZeroAndDtype) {
  HostTensor plus = HostTensor::Zeros(DType::kF32, {1});
  HostTensor minus = HostTensor::Zeros(DType::kF32, {1});
  EXPECT_TRUE(BitEqual(plus.view(), minus.view()));
  minus.Set(-0.0, 0);
  EXPECT_FALSE(BitEqual(plus.view(), minus.view()));
  const HostTensor bf16 = HostTensor::Zeros(DType::kBF16, {1});
  EXPECT_FALSE(BitEqual(plus.view(), bf16.view()));
}

TEST(HostTensorTest, PaddingSeparatesRowsAndCanariesNoticeWrites) {
  HostTensor x = HostTensor::Zeros(DType::kF32, {2, 3, 4}, 5);
  EXPECT_EQ(x.view().stride[2], 1);
  EXPECT_EQ(x.view().stride[1], 9);
  EXPECT_EQ(x.view().stride[0], 32);
  EXPECT_TRUE(x.GapsUntouched());
  x.view().as<float>()[4] = 1.0f;  // just past the first row
  EXPECT_FALSE(x.GapsUntouched());
}

TEST(HostTensorTest, RandomIsReproducibleAndRounded) {
  const HostTensor a = HostTensor::Random(DType::kBF16, {50}, 7);
  const HostTensor b = HostTensor::Random(DType::kBF16, {50}, 7);
  const HostTensor c = HostTensor::Random(DType::kBF16, {50}, 8);
  EXPECT_TRUE(BitEqual(a.view(), b.view()));
  EXPECT_FALSE(BitEqual(a.view(), c.view()));
  EXPECT_TRUE(std::isnan(HostTensor::NaNs(DType::kF32, {2}).Get(1)));
}

}  // namespace
}  // namespace sinklora::testing
