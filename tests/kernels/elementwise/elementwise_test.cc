// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;

class ElementwiseTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = Open(GetParam());
  std::unique_ptr<Backend> reference_ = Open("reference");
};

INSTANTIATE_TEST_SUITE_P(All, ElementwiseTest,
                         ::testing::Values("reference", kTested));

TEST_P(ElementwiseTest, SumSquares) {
  for (int64_t n : {0, 1, 7, 16, 33, 1000, 70000, 131073}) {
    const HostTensor x = HostTensor::Random(DType::kF32, {n}, n + 1);
    double got = -1.0;
    double want = 0.0;
    ASSERT_TRUE(Ok(backend_->SumSquares({.x = x.view(), .result = &got})));
    for (int64_t i = 0; i < n; ++i) want += x.Get(i) * x.Get(i);
    EXPECT_TRUE(std::fabs(got - want) <= 1e-12 * want) << n;
  }
}

TEST_P(ElementwiseTest, SumSquaresOfRowsHasTheBitsOfAllOfThem) {
  for (const int64_t columns : {1, 7, 32, 1000, 70001}) {
    for (const std::vector<int32_t>& rows : std::vector<std::vector<int32_t>>{
             {}, {0}, {1, 2, 3}, {0, 5, 6, 99}, {42, 99}}) {
      HostTensor x = HostTensor::Zeros(DType::kF32, {100, columns});
      for (const int32_t row : rows) {
        const HostTensor values =
            HostTensor::Random(DType::kF32, {columns}, row + 1);
        for (int64_t i = 0; i < columns; ++i) x.Set(values.Get(i), row, i);
      }
      const HostTensor indices =
          HostTensor::Ints({static_cast<int64_t>(rows.size())}, rows);
      double all = -1.0, some = -2.0;
      ASSERT_TRUE(Ok(backend_->SumSquares({.x = x.view(), .result = &all})));
      ConstTensorView list = indices.view();
      if (rows.empty()) list.data = &all;  // none, which is not "not given"
      ASSERT_TRUE(Ok(backend_->SumSquares(
          {.x = x.view(), .result = &some, .rows = list})));
      EXPECT_EQ(some, all) << columns;
    }
  }
}

TEST_P(ElementwiseTest, SumSquaresDoesNotOverflowAndKeepsNaN) {
  HostTensor x = HostTensor::Zeros(DType::kF32, {19});
  x.Set(1e38, 3);
  double got = 0.0;
  ASSERT_TRUE(Ok(backend_->SumSquares({.x = x.view(), .result = &got})));
  EXPECT_TRUE(std::fabs(got - 1e76) <= 1e70);
  x.Set(std::nan(""), 17);
  ASSERT_TRUE(Ok(backend_->SumSquares({.x = x.view(), .result = &got})));
  EXPECT_TRUE(std::isnan(got));
}

TEST_P(ElementwiseTest, ZeroRowsTouchesNoOther) {
  for (const int64_t columns : {1, 31, 1024, 1025, 2500}) {
    for (const std::vector<int32_t>& rows : std::vector<std::vector<int32_t>>{
             {}, {0}, {3, 4, 5}, {0, 7, 8}, {8}}) {
      HostTensor x = HostTensor::Random(DType::kF32, {9, columns}, columns);
      HostTensor want = x;
      for (const int32_t row : rows) {
        for (int64_t i = 0; i < columns; ++i) want.Set(0.0, row, i);
      }
      const HostTensor indices =
          HostTensor::Ints({static_cast<int64_t>(rows.size())}, rows);
      ASSERT_TRUE(
          Ok(backend_->ZeroRows({.x = x.view(), .rows = indices.view()})));
      EXPECT_TRUE(BitEqual(x.view(), want.view())) << columns;
    }
  }
}

TEST_P(ElementwiseTest, RefusesRowsThatAreNot) {
  HostTensor x = HostTensor::Zeros(DType::kF32, {5, 4});
  double sum = 0.0;
  for (const auto& [rows, why] :
       std::vector<std::pair<std::vector<int32_t>, std::string>>{
           {{0, 5}, "[0, 5)"},
           {{-1, 7}, "[0, 5)"},
           {{2, 2}, "> 2"},
           {{3, 1, 2}, "> 3"}}) {
    const HostTensor indices =
        HostTensor::Ints({static_cast<int64_t>(rows.size())}, rows);
    EXPECT_TRUE(
        Refused(backend_->ZeroRows({.x = x.view(), .rows = indices.view()}),
                {"zero_rows: rows[", why}));
    EXPECT_TRUE(
        Refused(backend_->SumSquares(
                    {.x = x.view(), .result = &sum, .rows = indices.view()}),
                {"sum_squares: rows[", why}));
  }
  EXPECT_TRUE(Refused(backend_->ZeroRows({.x = x.view(), .rows = {}}),
                      {"zero_rows: rows.rank is 0"}));
}

TEST_P(ElementwiseTest, ScaleIsExactlyRounded) {
  for (int64_t n : {1, 15, 16, 17, 66000}) {
    HostTensor x = HostTensor::Random(DType::kF32, {n}, n);
    HostTensor want = x;
    for (int64_t i = 0; i < n; ++i) want.Set(x.Get(i) * 0.25, i);
    ASSERT_TRUE(Ok(backend_->Scale({.x = x.view(), .factor = 0.25f})));
    EXPECT_TRUE(BitEqual(x.view(), want.view()));
  }
}

TEST_P(ElementwiseTest, ScaleColumnsIsExactlyRounded) {
  for (int64_t columns : {1, 15, 16, 17, 700}) {
    for (int64_t padding : {0, 3}) {
      HostTensor x =
          HostTensor::Random(DType::kF32, {97, columns}, columns, 1, padding);
      const HostTensor factors =
          HostTensor::Random(DType::kF32, {columns}, columns + 1);
      HostTensor want = x;
      for (int64_t i = 0; i < 97; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          // Of two floats the product in double is exact.
          want.Set(x.Get(i, j) * factors.Get(j), i, j);
        }
      }
      ASSERT_TRUE(Ok(
          backend_->ScaleColumns({.x = x.view(), .factors = factors.view()})));
      EXPECT_TRUE(BitEqual(x.view(), want.view()));
      EXPECT_TRUE(x.GapsUntouched());
    }
  }
}

TEST_P(ElementwiseTest, Add) {
  for (int64_t n : {1, 15, 16, 17, 66000}) {
    const HostTensor x = HostTensor::Random(DType::kF32, {n}, n);
    HostTensor got = HostTensor::Random(DType::kF32, {n}, n + 1);
    HostTensor want = got;
    ASSERT_TRUE(
        Ok(backend_->Add({.x = x.view(), .out = got.view(), .alpha = -0.3f})));
    ASSERT_TRUE(Ok(
        reference_->Add({.x = x.view(), .out = want.view(), .alpha = -0.3f})));
    EXPECT_TRUE(TensorNear(got.view(), want.view(), kPointwise));
  }
}

// Every float whose low half decides the rounding, NaN, Inf and denormals.
TEST_P(ElementwiseTest, CastRoundsToNearestEven) {
  std::vector<uint32_t> bits;
  for (uint32_t high : {0x0000u, 0x0001u, 0x3f80u, 0x3f81u, 0x7f7fu, 0x7f80u,
                        0xff80u, 0x8000u, 0x007fu}) {
    for (uint32_t low :
         {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      bits.push_back(high << 16 | low);
    }
  }
  const int64_t n = static_cast<int64_t>(bits.size());
  HostTensor x = HostTensor::Zeros(DType::kF32, {n});
  for (int64_t i = 0; i < n; ++i) {
    x.view().as<float>()[i] = std::bit_cast<float>(bits[i]);
  }
  HostTensor narrow = HostTensor::NaNs(DType::kBF16, {n});
  ASSERT_TRUE(Ok(backend_->Cast({.x = x.view(), .out = narrow.view()})));
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t got = narrow.view().as<bf16_t>()[i];
    const float value = std::bit_cast<float>(bits[i]);
    EXPECT_EQ(got, ToBf16(value)) << std::hex << bits[i];
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FromBf16(got)));
      continue;
    }
    // Independent of ToBf16: the two neighbours in bf16 and the tie rule.
    const uint16_t down = static_cast<uint16_t>(bits[i] >> 16);
    const uint32_t low = bits[i] & 0xffffu;
    const bool up = low > 0x8000u || (low == 0x8000u && (down & 1u) != 0);
    EXPECT_EQ(got, static_cast<uint16_t>(down + up)) << std::hex << bits[i];
  }
  HostTensor wide = HostTensor::NaNs(DType::kF32, {n});
  ASSERT_TRUE(Ok(backend_->Cast({.x = narrow.view(), .out = wide.view()})));
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(wide.view().as<float>()[i]),
              uint32_t{narrow.view().as<bf16_t>()[i]} << 16);
  }
}

TEST_P(ElementwiseTest, CastOddLengths) {
  for (int64_t n : {0, 1, 31, 33, 70001}) {
    const HostTensor x = HostTensor::Random(DType::kBF16, {n}, 5);
    HostTensor wide = HostTensor::NaNs(DType::kF32, {n});
    HostTensor back = HostTensor::NaNs(DType::kBF16, {n});
    ASSERT_TRUE(Ok(backend_->Cast({.x = x.view(), .out = wide.view()})));
    ASSERT_TRUE(Ok(backend_->Cast({.x = wide.view(), .out = back.view()})));
    if (n == 0) continue;
    EXPECT_TRUE(BitEqual(back.view(), x.view()));
  }
}

TEST_P(ElementwiseTest, RefusesBadParams) {
  HostTensor x = HostTensor::Zeros(DType::kF32, {4});
  HostTensor y = HostTensor::Zeros(DType::kF32, {5});
  HostTensor padded = HostTensor::Zeros(DType::kF32, {4, 4}, 1);
  const HostTensor ints = HostTensor::Ints({4}, {1, 2, 3, 4});
  EXPECT_TRUE(Refused(backend_->SumSquares({.x = x.view()}),
                      {"sum_squares: result is null"}));
  EXPECT_TRUE(Refused(backend_->Add({.x = x.view(), .out = y.view()}),
                      {"add: out.num_elements is 5", "4"}));
  EXPECT_TRUE(Refused(backend_->Scale({.x = padded.view()}),
                      {"scale: x.stride", "contiguous"}));
  EXPECT_TRUE(
      Refused(backend_->ScaleColumns({.x = padded.view(), .factors = y.view()}),
              {"scale_columns: factors.num_elements is 5", "4"}));
  EXPECT_TRUE(Refused(backend_->Cast({.x = ints.view(), .out = x.view()}),
                      {"cast: x.dtype is i32"}));
}

TEST(ElementwiseCpuTest, ThreadsDoNotChangeBits) {
  const HostTensor x = HostTensor::Random(DType::kF32, {300001}, 5);
  double one = 0.0;
  double three = 0.0;
  ASSERT_TRUE(
      Ok(Open(kTested, 1)->SumSquares({.x = x.view(), .result = &one})));
  ASSERT_TRUE(
      Ok(Open(kTested, 3)->SumSquares({.x = x.view(), .result = &three})));
  EXPECT_EQ(one, three);
}

}  // namespace
}  // namespace sinklora::kernels
