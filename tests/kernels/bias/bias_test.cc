// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;

TEST(BiasTest, ForwardAddsToEveryRow) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    for (const int64_t columns : {1, 17, 64}) {
      const HostTensor bias = HostTensor::Random(DType::kF32, {columns}, 1);
      HostTensor out = HostTensor::Random(DType::kF32, {29, columns}, 2, 1, 3);
      const HostTensor before = out;
      ASSERT_TRUE(
          Ok(backend->BiasForward({.bias = bias.view(), .out = out.view()})));
      for (int64_t t = 0; t < 29; ++t) {
        for (int64_t i = 0; i < columns; ++i) {
          ASSERT_EQ(out.Get(t, i),
                    static_cast<float>(before.Get(t, i) + bias.Get(i)));
        }
      }
      EXPECT_TRUE(out.GapsUntouched());
    }
  }
}

HostTensor Gradient(Backend& backend, int64_t tokens, int64_t columns) {
  const HostTensor dout =
      HostTensor::Random(DType::kF32, {tokens, columns}, 2, 1, 5);
  HostTensor dbias = HostTensor::Random(DType::kF32, {columns}, 3);
  EXPECT_TRUE(
      Ok(backend.BiasBackward({.dout = dout.view(), .dbias = dbias.view()})));
  return dbias;
}

TEST(BiasTest, BackwardSumsTheRows) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  for (const int64_t columns : {1, 63, 65, 200, 513}) {
    for (const int64_t tokens : {0, 1, 63, 64, 65, 301}) {
      EXPECT_TRUE(TensorNear(Gradient(*cpu, tokens, columns).view(),
                             Gradient(*reference, tokens, columns).view(),
                             SumTolerance(tokens + 1)));
    }
  }
  Gradient(*cpu, 65, 0);  // is no error
  EXPECT_TRUE(BitEqual(Gradient(*Open(kTested, 1), 301, 200).view(),
                       Gradient(*Open(kTested, 3), 301, 200).view()));
}

TEST(BiasTest, RefusesBadParamsUntouched) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const HostTensor vector = HostTensor::Random(DType::kF32, {4}, 1);
    const HostTensor matrix = HostTensor::Random(DType::kF32, {3, 5}, 1);
    HostTensor out = HostTensor::Zeros(DType::kF32, {3, 5});
    HostTensor sum = HostTensor::Zeros(DType::kF32, {4});
    EXPECT_TRUE(Refused(
        backend->BiasForward({.bias = vector.view(), .out = out.view()}),
        {"bias_forward", "bias", "4", "columns of out"}));
    EXPECT_TRUE(Refused(
        backend->BiasBackward({.dout = matrix.view(), .dbias = sum.view()}),
        {"bias_backward", "dbias", "4", "columns of dout"}));
    const HostTensor half = HostTensor::Zeros(DType::kBF16, {5});
    EXPECT_TRUE(
        Refused(backend->BiasForward({.bias = half.view(), .out = out.view()}),
                {"bias_forward", "bias.dtype"}));
    EXPECT_TRUE(
        BitEqual(out.view(), HostTensor::Zeros(DType::kF32, {3, 5}).view()));
    EXPECT_TRUE(
        BitEqual(sum.view(), HostTensor::Zeros(DType::kF32, {4}).view()));
  }
}

}  // namespace
}  // namespace sinklora::kernels
