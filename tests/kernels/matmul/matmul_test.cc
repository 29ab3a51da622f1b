// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;
using testing::Tolerance;

struct Case {
  int64_t m, n, k;
  DType a = DType::kF32, b = DType::kF32, out = DType::kF32;
  bool transpose_a = false, transpose_b = false;
  float alpha = 1.0f, beta = 0.0f;
  int64_t padding = 0;
};

std::ostream& operator<<(std::ostream& os, const Case& c) {
  return os << "m" << c.m << " n" << c.n << " k" << c.k << " dtypes "
            << int(c.a) << int(c.b) << int(c.out) << " transpose "
            << c.transpose_a << c.transpose_b << " alpha " << c.alpha
            << " beta " << c.beta << " padding " << c.padding;
}

struct Operands {
  HostTensor a, b, out;
};

Operands MakeOperands(const Case& c, uint64_t seed) {
  using Shape = std::vector<int64_t>;
  const Shape a = c.transpose_a ? Shape{c.k, c.m} : Shape{c.m, c.k};
  const Shape b = c.transpose_b ? Shape{c.n, c.k} : Shape{c.k, c.n};
  const Shape out{c.m, c.n};
  Operands x;
  x.a = HostTensor::Random(c.a, a, seed, 1.0, c.padding);
  x.b = HostTensor::Random(c.b, b, seed + 1, 1.0, c.padding);
  x.out = c.beta == 0.0f
              ? HostTensor::NaNs(c.out, out, c.padding)
              : HostTensor::Random(c.out, out, seed + 2, 1.0, c.padding);
  return x;
}

HostTensor Product(Backend& backend, const Case& c, const Operands& x) {
  HostTensor out = x.out;
  EXPECT_TRUE(Ok(backend.MatMul({.a = x.a.view(),
                                 .b = x.b.view(),
                                 .out = out.view(),
                                 .transpose_a = c.transpose_a,
                                 .transpose_b = c.transpose_b,
                                 .alpha = c.alpha,
                                 .beta = c.beta})))
      << c;
  EXPECT_TRUE(out.GapsUntouched()) << c;
  return out;
}

void CheckAgainstReference(Backend& backend, Backend& reference,
                           const Case& c) {
  const Operands x = MakeOperands(c, 17);
  const HostTensor got = Product(backend, c, x);
  const HostTensor want = Product(reference, c, x);
  EXPECT_TRUE(TensorNear(got.view(), want.view(), SumTolerance(c.k, c.out)))
      << c;
}

TEST(MatMulTest, EveryDtypeTransposeAndStride) {
  const auto cpu = Open(kTested);
  const auto reference = Open("reference");
  for (DType a : {DType::kF32, DType::kBF16}) {
    for (DType b : {DType::kF32, DType::kBF16}) {
      for (DType out : {DType::kF32, DType::kBF16}) {
        for (int bits = 0; bits < 16; ++bits) {
          Case c{37, 29, 53, a, b, out};
          c.transpose_a = bits & 1;
          c.transpose_b = bits & 2;
          c.padding = (bits & 4) ? 3 : 0;
          if (bits & 8) {
            c.alpha = 0.37f;
            c.beta = 1.0f;
          }
          CheckAgainstReference(*cpu, *reference, c);
        }
      }
    }
  }
}

TEST(MatMulTest, OddShapes) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  for (int64_t m : {1, 2, 15, 16, 17, 63, 65}) {
    for (int64_t n : {1, 7, 16, 64, 65, 129}) {
      for (int64_t k : {1, 2, 31, 64, 67}) {
        Case c{m, n, k};
        c.transpose_b = (m + n) % 2 == 0;
        CheckAgainstReference(*cpu, *reference, c);
        c.a = c.b = DType::kBF16;
        c.transpose_a = k % 2 == 1;
        CheckAgainstReference(*cpu, *reference, c);
      }
    }
  }
}

TEST(MatMulTest, ShapesThatAreCutIntoTiles) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  for (const Case& c : {
           Case{.m = 301, .n = 130, .k = 70, .transpose_a = true},
           Case{.m = 5, .n = 1031, .k = 150, .transpose_b = true},
           Case{.m = 8, .n = 900, .k = 160, .transpose_a = true},
           Case{.m = 1, .n = 2000, .k = 257, .transpose_b = true},
           Case{.m = 9,
           .n = 700,
           .k = 201,
           .b = DType::kBF16,
           .transpose_b = true,
           .padding = 2},
       }) {
    CheckAgainstReference(*cpu, *reference, c);
  }
}

// One small extent: kernels of their own. Tile sizes +- 1 and primes.
TEST(MatMulTest, SlimShapes) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  for (int64_t slim : {1, 3, 4, 8, 63, 64, 65}) {
    for (auto [tall, wide] : {std::pair<int64_t, int64_t>{1, 1},
                              {5, 65},
                              {7, 257},
                              {37, 1031},
                              {127, 15},
                              {211, 300}}) {
      if (Emulated() && tall * wide > 1000) continue;  // takes minutes
      for (int bits = 0; bits < 4; ++bits) {
        const int64_t padding = bits & 1 ? 3 : 0;
        const float alpha = bits & 1 ? 0.37f : 1.0f;
        const float beta = bits & 2 ? 1.0f : 0.0f;
        const bool transpose_b = (tall + wide + bits) % 2 == 0;
        const auto check = [&](int64_t m, int64_t n, int64_t k,
                               bool transpose_a, bool transpose_b) {
          Case c{m, n, k};
          c.transpose_a = transpose_a;
          c.transpose_b = transpose_b;
          c.alpha = alpha;
          c.beta = beta;
          c.padding = padding;
          CheckAgainstReference(*cpu, *reference, c);
        };
        check(tall, slim, wide, false, transpose_b);
        check(tall, wide, slim, false, transpose_b);
        check(slim, wide, tall, true, false);
        check(wide, slim, tall, true, false);
      }
    }
  }
}

// The gradient of LoRA's A has few rows, and its bits are still those of the
// same rows in a product of many.
TEST(MatMulTest, RowBitsOfSumsOverTokensDoNotDependOnTheRows) {
  const auto cpu = Open(kTested);
  for (int64_t tokens : {1, 31, 513, 2049}) {
    if (tokens > 31 && Emulated()) continue;
    for (float beta : {0.0f, 1.0f}) {
      Case all{.m = 130, .n = 203, .k = tokens, .transpose_a = true};
      all.beta = beta;
      const Operands x = MakeOperands(all, 53);
      const HostTensor want = Product(*cpu, all, x);
      for (int64_t m : {1, 7, 64, 65}) {
        HostTensor out = x.out;
        MatMulParams p{.a = x.a.view(),
                       .b = x.b.view(),
                       .out = out.view().Rows(0, m),
                       .transpose_a = true,
                       .beta = beta};
        p.a.shape[1] = m;
        ASSERT_TRUE(Ok(cpu->MatMul(p)));
        EXPECT_TRUE(BitEqual(out.view().Rows(0, m), want.view().Rows(0, m)))
            << all << " rows " << m;
      }
    }
  }
}

TEST(MatMulTest, EmptyDimensions) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    Product(*backend, {0, 5, 3}, MakeOperands({0, 5, 3}, 1));
    Product(*backend, {5, 0, 3}, MakeOperands({5, 0, 3}, 1));
    const Case no_terms{4, 5, 0};
    EXPECT_TRUE(
        BitEqual(Product(*backend, no_terms, MakeOperands(no_terms, 1)).view(),
                 HostTensor::Zeros(DType::kF32, {4, 5}).view()));
    const Case kept{.m = 4, .n = 5, .k = 0, .beta = 1.0f};
    const Operands x = MakeOperands(kept, 1);
    EXPECT_TRUE(BitEqual(Product(*backend, kept, x).view(), x.out.view()));
  }
}

// [n, k]. On an emulated GPU few and small ones: a real one is asked for more
// by tests/gpu.
std::vector<std::pair<int64_t, int64_t>> ShapesOfRowBits() {
  if (Emulated()) return {{100, 77}, {17, 40}};
  return {{100, 77}, {288, 1000}, {1200, 300}, {50, 1400},
          {3, 2000}, {500, 8},    {500, 64},   {17, 4096}};
}

// Batching must never change a result: row 0 .. m-1 of a big product against
// the same rows multiplied in batches of m.
TEST(MatMulTest, RowBitsDoNotDependOnTheBatch) {
  const auto cpu = Open(kTested);
  for (DType a : {DType::kF32, DType::kBF16}) {
    for (DType b : {DType::kF32, DType::kBF16}) {
      for (bool transpose_b : {false, true}) {
        for (bool transpose_a : {false, true}) {
          for (auto [n, k] : ShapesOfRowBits()) {
            Case all{.m = 300, .n = n, .k = k, .a = a, .b = b};
            all.transpose_a = transpose_a;
            all.transpose_b = transpose_b;
            const Operands x = MakeOperands(all, 23);
            const HostTensor want = Product(*cpu, all, x);
            for (int64_t m : {1, 2, 3, 4, 5, 17, 64, 129}) {
              Case part = all;
              part.m = m;
              Operands y = x;
              y.out = HostTensor::NaNs(DType::kF32, {m, n});
              MatMulParams p{.a = x.a.view(),
                             .b = x.b.view(),
                             .out = y.out.view(),
                             .transpose_a = transpose_a,
                             .transpose_b = transpose_b};
              p.a.shape[transpose_a ? 1 : 0] = m;
              ASSERT_TRUE(Ok(cpu->MatMul(p)));
              EXPECT_TRUE(BitEqual(y.out.view(), want.view().Rows(0, m)))
                  << part;
            }
          }
        }
      }
    }
  }
}

TEST(MatMulTest, ThreadsDoNotChangeBits) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Case& shape :
         {Case{.m = 500, .n = 300, .k = 200, .transpose_a = true},
          Case{.m = 3, .n = 1500, .k = 700, .transpose_b = true},
          Case{.m = 700, .n = 8, .k = 1500, .transpose_b = true},
          Case{.m = 700, .n = 1500, .k = 8, .transpose_b = true},
          Case{.m = 3, .n = 9000, .k = 64},
          Case{.m = 8, .n = 1500, .k = 1700, .transpose_a = true},
          Case{.m = 1500, .n = 8, .k = 1700, .transpose_a = true},
          Case{.m = 200, .n = 200, .k = 300, .transpose_b = true}}) {
      Case c = shape;
      c.a = c.b = dtype;
      if (Emulated() && c.m * c.n * c.k > 2'000'000) continue;
      const Operands x = MakeOperands(c, 29);
      const HostTensor one = Product(*Open(kTested, 1), c, x);
      for (int threads : {2, 3, 5}) {
        const HostTensor many = Product(*Open(kTested, threads), c, x);
        EXPECT_TRUE(BitEqual(many.view(), one.view())) << c << threads;
      }
    }
  }
}

// No shape may fall to a oneDNN kernel without the property above (which is an
// error, so Ok() is the check).
TEST(MatMulTest, RandomShapesAreAllServed) {
  const auto cpu = Open(kTested, 1);
  std::mt19937 engine(3);
  const auto pick = [&](int64_t most) {
    return static_cast<int64_t>(engine() % most) + 1;
  };
  for (int i = 0; i < (Emulated() ? 20 : 150); ++i) {
    Case c{pick(70), pick(i % 3 == 0 ? 9 : 300), pick(i % 5 == 0 ? 5 : 300)};
    c.a = c.b = i % 2 == 0 ? DType::kF32 : DType::kBF16;
    c.transpose_b = engine() % 2;
    c.beta = engine() % 2;
    Product(*cpu, c, MakeOperands(c, i));
  }
}

TEST(MatMulTest, TinyAndHugeValues) {
  const auto cpu = Open(kTested);
  const auto reference = Open("reference");
  for (double scale : {1e-30, 1e-20, 1e15}) {
    const Case c{9, 11, 13};
    Operands x = MakeOperands(c, 31);
    x.a = HostTensor::Random(DType::kF32, {9, 13}, 1, scale);
    Tolerance tolerance = SumTolerance(13);
    EXPECT_TRUE(TensorNear(Product(*cpu, c, x).view(),
                           Product(*reference, c, x).view(), tolerance));
  }
}

TEST(MatMulTest, NaNAndInfReachTheResult) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const Case c{3, 4, 5};
    Operands x = MakeOperands(c, 37);
    x.a.Set(std::numeric_limits<double>::quiet_NaN(), 1, 2);
    const HostTensor out = Product(*backend, c, x);
    for (int64_t j = 0; j < 4; ++j) {
      EXPECT_TRUE(std::isnan(out.Get(1, j)));
      EXPECT_TRUE(std::isfinite(out.Get(0, j)));
    }
  }
}

TEST(MatMulTest, RefusesBadParams) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    Operands x = MakeOperands({4, 5, 6}, 41);
    const MatMulParams good{
        .a = x.a.view(), .b = x.b.view(), .out = x.out.view()};
    MatMulParams p = good;
    p.b.shape[0] = 7;
    EXPECT_TRUE(Refused(backend->MatMul(p), {"matmul", "b.shape[0]", "7"}));
    p = good;
    p.a.dtype = DType::kI32;
    EXPECT_TRUE(Refused(backend->MatMul(p), {"a.dtype is i32", "f32"}));
    p = good;
    p.a.stride[1] = 2;
    EXPECT_TRUE(Refused(backend->MatMul(p), {"a.stride[1] is 2"}));
    p = good;
    p.out.stride[0] = 3;
    EXPECT_TRUE(Refused(backend->MatMul(p), {"out.stride[0] is 3"}));
    p = good;
    p.beta = 0.5f;
    EXPECT_TRUE(Refused(backend->MatMul(p), {"beta is 0.5", "0 or 1"}));
    p = good;
    p.alpha = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(Refused(backend->MatMul(p), {"alpha is", "finite"}));
    p = good;
    p.out.data = x.a.view().data;
    EXPECT_TRUE(Refused(backend->MatMul(p), {"out is overlapping a"}));
    p = good;
    p.a.data = nullptr;
    EXPECT_TRUE(Refused(backend->MatMul(p), {"a.data is null"}));
    p = good;
    p.a.rank = 3;
    EXPECT_TRUE(Refused(backend->MatMul(p), {"a.rank is 3, must be 2"}));
  }
}

// Column slices of one wide buffer interleave in memory but share no byte.
TEST(MatMulTest, AcceptsInterleavedColumnSlices) {
  const auto backend = Open(kTested);
  HostTensor wide = HostTensor::Random(DType::kF32, {4, 20}, 43);
  const HostTensor b = HostTensor::Random(DType::kF32, {10, 10}, 44);
  TensorView left = wide.view();
  left.shape[1] = 10;
  TensorView right = left;
  right.data = wide.view().as<float>() + 10;
  EXPECT_TRUE(Ok(backend->MatMul({.a = left, .b = b.view(), .out = right})));
}

}  // namespace
}  // namespace sinklora::kernels
