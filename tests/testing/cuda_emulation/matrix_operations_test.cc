// ldmatrix and mma of the emulated GPU against a plain product.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/launch.h"
#include "tests/testing/cuda_emulation/emulated_array.h"

namespace sinklora::kernels::cuda {
namespace {

using emulation::EmulatedArray;

// c [16, 16] = a [16, 16] b, b given as [k, n] or as its transpose, by one
// warp.
SINKLORA_GLOBAL void ProductKernel(const bf16_t* a, const bf16_t* b, float* c,
                                   bool b_is_transposed) {
  SINKLORA_SHARED(uint4[16][2], a_rows);
  SINKLORA_SHARED(uint4[16][2], b_rows);
  const int lane = static_cast<int>(threadIdx.x);
  CpAsync16(&a_rows[lane / 2][lane % 2], a + lane * 8);
  CpAsync16(&b_rows[lane / 2][lane % 2], b + lane * 8);
  CpAsyncCommit();
  CpAsyncWait<0>();
  SyncWarp();
  uint32_t a_frag[4];
  LdMatrixX4(a_frag, &a_rows[lane % 16][lane / 16]);
  uint32_t b_frag[4];
  if (b_is_transposed) {
    LdMatrixX4(b_frag, &b_rows[lane / 16 * 8 + lane % 8][lane / 8 % 2]);
  } else {
    LdMatrixX4Trans(b_frag, &b_rows[lane % 16][lane / 16]);
  }
  for (int n = 0; n < 2; ++n) {
    float d[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    MmaBf16_16x8x16(d, a_frag, b_frag + 2 * n);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8;
      c[row * 16 + n * 8 + lane % 4 * 2 + i % 2] = d[i];
    }
  }
}

float ValueOf(int i, int j, int salt) {
  return static_cast<float>((i * 7 + j * 5 + salt) % 17 - 8);
}

class MatrixOperationsTest : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(All, MatrixOperationsTest, ::testing::Bool());

TEST_P(MatrixOperationsTest, MultiplyAsAPlainProductDoes) {
  const bool b_is_transposed = GetParam();
  std::vector<bf16_t> a(256), b(256);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      a[i * 16 + j] = ToBf16(ValueOf(i, j, 3));
      b[b_is_transposed ? j * 16 + i : i * 16 + j] = ToBf16(ValueOf(i, j, 8));
    }
  }
  const EmulatedArray<bf16_t> device_a(a), device_b(b);
  const EmulatedArray<float> device_c(256);
  ASSERT_TRUE(Launch("product", ProductKernel, {{1}, {32}}, nullptr,
                     device_a.data(), device_b.data(), device_c.data(),
                     b_is_transposed)
                  .ok());
  const std::vector<float> c = device_c.ToHost();
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      float want = 0.5f;
      for (int k = 0; k < 16; ++k) want += ValueOf(i, k, 3) * ValueOf(k, j, 8);
      EXPECT_EQ(c[i * 16 + j], want) << i << ", " << j;
    }
  }
}

SINKLORA_GLOBAL void ConversionKernel(const float* x, float* out) {
  const uint32_t pair = PackBf16(x[0], x[1]);
  out[0] = LowOfBf16Pair(pair);
  out[1] = HighOfBf16Pair(pair);
  out[2] = FloatFromBf16(Bf16FromFloat(x[2]));
  out[3] = Exp2(-INFINITY);
  out[4] = Exp2(3.0f);
}

TEST(ConversionTest, RoundsToNearestEven) {
  // Halfway between two values of bf16: to the even one.
  const EmulatedArray<float> x(
      std::vector<float>{1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, -2.5f});
  const EmulatedArray<float> out(5);
  ASSERT_TRUE(Launch("convert", ConversionKernel, {{1}, {32}}, nullptr,
                     x.data(), out.data())
                  .ok());
  EXPECT_EQ(out.ToHost(),
            (std::vector<float>{1.0f, 1.0f + 4 * 0x1p-8f, -2.5f, 0.0f, 8.0f}));
}

}  // namespace
}  // namespace sinklora::kernels::cuda
