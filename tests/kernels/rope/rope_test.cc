// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;

struct Tables {
  HostTensor cos, sin;
};

Tables MakeTables(int64_t rows, int64_t half) {
  Tables t{HostTensor::Zeros(DType::kF32, {rows, half}),
           HostTensor::Zeros(DType::kF32, {rows, half})};
  for (int64_t p = 0; p < rows; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          p * std::pow(10000.0, -static_cast<double>(i) / half);
      t.cos.Set(std::cos(angle), p, i);
      t.sin.Set(std::sin(angle), p, i);
    }
  }
  return t;
}

HostTensor Positions(int64_t tokens, int64_t rows) {
  std::vector<int32_t> positions(tokens);
  for (int64_t t = 0; t < tokens; ++t) positions[t] = (t * 7 + 3) % rows;
  return HostTensor::Ints({tokens}, positions);
}

Status Rotate(Backend& backend, HostTensor& x, const HostTensor& positions,
              const Tables& tables, bool inverse) {
  return backend.Rope({.x = x.view(),
                       .positions = positions.view(),
                       .cos = tables.cos.view(),
                       .sin = tables.sin.view(),
                       .inverse = inverse});
}

TEST(RopeTest, MatchesReferenceAndInverts) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  for (int64_t tokens : {1, 3, 61}) {
    for (int64_t heads : {1, 5}) {
      for (int64_t dim : {2, 8, 26, 64, 130}) {
        for (int64_t padding : {0, 3}) {
          const Tables tables = MakeTables(50, dim / 2);
          const HostTensor positions = Positions(tokens, 50);
          const HostTensor x = HostTensor::Random(
              DType::kF32, {tokens, heads, dim}, 1, 1.0, padding);
          HostTensor got = x;
          HostTensor want = x;
          ASSERT_TRUE(Ok(Rotate(*cpu, got, positions, tables, false)));
          ASSERT_TRUE(Ok(Rotate(*reference, want, positions, tables, false)));
          EXPECT_TRUE(TensorNear(got.view(), want.view(), SumTolerance(2)));
          EXPECT_TRUE(got.GapsUntouched());
          ASSERT_TRUE(Ok(Rotate(*cpu, got, positions, tables, true)));
          EXPECT_TRUE(TensorNear(got.view(), x.view(), SumTolerance(8)));
        }
      }
    }
  }
}

TEST(RopeTest, ScoresDependOnRelativePositionOnly) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const Tables tables = MakeTables(40, 8);
    const HostTensor x = HostTensor::Random(DType::kF32, {2, 1, 16}, 5);
    double first = 0.0;
    for (int32_t base : {0, 11, 29}) {
      HostTensor y = x;
      ASSERT_TRUE(
          Ok(Rotate(*backend, y, HostTensor::Ints({2}, {base + 6, base}),
                    tables, false)));
      double dot = 0.0;
      for (int64_t d = 0; d < 16; ++d) dot += y.Get(0, 0, d) * y.Get(1, 0, d);
      if (base == 0) first = dot;
      EXPECT_TRUE(std::fabs(dot - first) <= 1e-5);
    }
  }
}

TEST(RopeTest, RefusesPositionsOutsideTheTableUntouched) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const Tables tables = MakeTables(10, 4);
    const HostTensor before = HostTensor::Random(DType::kF32, {3, 2, 8}, 1);
    for (int32_t bad : {10, -1}) {
      HostTensor x = before;
      EXPECT_TRUE(
          Refused(Rotate(*backend, x, HostTensor::Ints({3}, {0, 1, bad}),
                         tables, false),
                  {"rope", "positions[2]", std::to_string(bad), "[0, 10)"}));
      EXPECT_TRUE(BitEqual(x.view(), before.view()));
    }
    HostTensor odd = HostTensor::Random(DType::kF32, {1, 1, 7}, 1);
    EXPECT_TRUE(Refused(
        Rotate(*backend, odd, HostTensor::Ints({1}, {0}), tables, false),
        {"x.shape[2] is 7", "even"}));
  }
}

}  // namespace
}  // namespace sinklora::kernels
