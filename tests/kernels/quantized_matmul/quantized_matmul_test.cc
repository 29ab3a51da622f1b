// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "tests/kernels/quantized_matmul/packed.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;
using testing::Tolerance;

constexpr QuantizedFormat kFormats[] = {QuantizedFormat::kInt8,
                                        QuantizedFormat::kInt4};
constexpr DType kProducts[] = {DType::kF32, DType::kBF16};

HostTensor Product(Backend& backend, const HostTensor& a,
                   const QuantizedMatrix& b, DType products,
                   int64_t padding = 0) {
  HostTensor out =
      HostTensor::NaNs(DType::kF32, {a.view().shape[0], b.rows}, padding);
  EXPECT_TRUE(Ok(backend.QuantizedMatMul(
      {.a = a.view(), .b = b, .out = out.view(), .products = products})));
  EXPECT_TRUE(out.GapsUntouched());
  return out;
}

// The rows of a [first, first + count).
HostTensor Rows(const HostTensor& a, int64_t first, int64_t count) {
  HostTensor out = HostTensor::Zeros(DType::kF32, {count, a.view().shape[1]});
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t c = 0; c < a.view().shape[1]; ++c) {
      out.Set(a.Get(first + i, c), i, c);
    }
  }
  return out;
}

// Of a product of k terms, one factor of size 1 and one of size `weight`. A
// lone result may have cancelled to next to nothing, so the size that results
// have is taken for the largest of them.
Tolerance ProductTolerance(int64_t k, double weight) {
  Tolerance t = SumTolerance(k);
  t.absolute = t.of_largest * weight * std::sqrt(static_cast<double>(k));
  return t;
}

Tolerance F32ProductTolerance(const HostTensor& a, double weight) {
  Tolerance t = ProductTolerance(a.view().shape[1], weight);
  t.absolute += ActivationRounding(a, weight);
  return t;
}

void CheckAgainstReference(Backend& backend, Backend& reference, int64_t m,
                           int64_t n, int64_t k, int64_t padding = 0) {
  const HostTensor a = HostTensor::Random(DType::kF32, {m, k}, 3, 1.0, padding);
  const HostTensor w = HostTensor::Random(DType::kF32, {n, k}, 4, 0.1);
  for (const auto format : kFormats) {
    const Packed b = Pack(reference, w, format);
    for (const DType products : kProducts) {
      const HostTensor got = Product(backend, a, b.view, products, padding);
      const HostTensor want = Product(reference, a, b.view, products);
      const Tolerance t = products == DType::kF32 ? F32ProductTolerance(a, 0.1)
                                                  : ProductTolerance(k, 0.1);
      EXPECT_TRUE(TensorNear(got.view(), want.view(), t))
          << NameOf(format) << " products " << int(products) << " m" << m
          << " n" << n << " k" << k;
    }
  }
}

TEST(QuantizedMatMulTest, OddShapesMatchTheReference) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  for (const int64_t m : {1, 2, 3, 4, 5, 7, 8, 16, 17, 31}) {
    for (const int64_t n : {1, 7, 63, 64, 65, 129}) {
      for (const int64_t k : {1, 2, 31, 32, 33, 64, 67, 96}) {
        if (Emulated() && (m + n + k) % 5 != 0) continue;
        CheckAgainstReference(*cpu, *reference, m, n, k, k % 2 == 1 ? 3 : 0);
      }
    }
  }
}

TEST(QuantizedMatMulTest, ShapesThatAreCutIntoTilesMatchTheReference) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  CheckAgainstReference(*cpu, *reference, 1, 1031, 1000);
  if (Emulated()) return;
  CheckAgainstReference(*cpu, *reference, 300, 200, 130);
  CheckAgainstReference(*cpu, *reference, 1100, 70, 40);
  CheckAgainstReference(*cpu, *reference, 4, 300, 4100);
}

TEST(QuantizedMatMulTest, RowBitsDoNotDependOnTheBatch) {
  const auto cpu = Open(kTested, 3);
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{100, 77},
                             {288, 1000},
                             {1200, 300},
                             {3, 2000}}) {
    if (Emulated() && n != 100) continue;
    const HostTensor w = HostTensor::Random(DType::kF32, {n, k}, 5);
    const HostTensor a = HostTensor::Random(DType::kF32, {300, k}, 6);
    for (const auto format : kFormats) {
      const Packed b = Pack(*cpu, w, format);
      for (const DType products : kProducts) {
        const HostTensor want = Product(*cpu, a, b.view, products);
        for (const int64_t m : {1, 2, 3, 4, 5, 8, 15, 17, 64, 129}) {
          const HostTensor got = Product(*cpu, Rows(a, 7, m), b.view, products);
          EXPECT_TRUE(BitEqual(got.view(), want.view().Rows(7, m)))
              << NameOf(format) << " products " << int(products) << " m " << m;
        }
      }
    }
  }
}

TEST(QuantizedMatMulTest, ThreadsDoNotChangeBits) {
  const int64_t n = Emulated() ? 150 : 1500, k = Emulated() ? 70 : 300;
  const HostTensor w = HostTensor::Random(DType::kF32, {n, k}, 7);
  for (const int64_t m : {1, 4, 70}) {
    const HostTensor a = HostTensor::Random(DType::kF32, {m, k}, 8);
    for (const auto format : kFormats) {
      for (const DType products : kProducts) {
        const auto one = Open(kTested, 1);
        const Packed b = Pack(*one, w, format);
        const HostTensor want = Product(*one, a, b.view, products);
        for (const int threads : {2, 3, 5}) {
          const auto many = Open(kTested, threads);
          EXPECT_TRUE(BitEqual(Product(*many, a, b.view, products).view(),
                               want.view()));
        }
      }
    }
  }
}

// Per block the levels are whole numbers: with whole activations and scales
// that are powers of two nothing is rounded, so the result is exact.
TEST(QuantizedMatMulTest, WholeNumbersAreExact) {
  HostTensor w = HostTensor::Zeros(DType::kF32, {70, 100});
  HostTensor a = HostTensor::Zeros(DType::kF32, {3, 100});
  for (int64_t c = 0; c < 100; ++c) {
    for (int64_t r = 0; r < 70; ++r) {
      w.Set(c % 32 == 5 || c == 99 ? 127 : (r * 31 + c * 17) % 255 - 127, r, c);
    }
    for (int64_t i = 0; i < 3; ++i) a.Set((c * 13 + i) % 21 - 10, i, c);
  }
  const auto reference = Open("reference");
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const Packed b = Pack(*backend, w, QuantizedFormat::kInt8);
    for (const DType products : kProducts) {
      const HostTensor got = Product(*backend, a, b.view, products);
      for (int64_t i = 0; i < 3; ++i) {
        for (int64_t r = 0; r < 70; ++r) {
          double want = 0;
          for (int64_t c = 0; c < 100; ++c) want += a.Get(i, c) * w.Get(r, c);
          ASSERT_EQ(got.Get(i, r), want) << name;
        }
      }
    }
  }
}

TEST(QuantizedMatMulTest, EmptyDimensions) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    for (const DType products : kProducts) {
      const HostTensor w = HostTensor::Random(DType::kF32, {5, 40}, 1);
      const Packed b = Pack(*backend, w, QuantizedFormat::kInt4);
      Product(*backend, HostTensor::Zeros(DType::kF32, {0, 40}), b.view,
              products);
      const QuantizedMatrix no_rows{nullptr, QuantizedFormat::kInt8, 0, 40};
      Product(*backend, HostTensor::Zeros(DType::kF32, {2, 40}), no_rows,
              products);
      const QuantizedMatrix no_cols{nullptr, QuantizedFormat::kInt8, 5, 0};
      const HostTensor a = HostTensor::Zeros(DType::kF32, {2, 0});
      EXPECT_TRUE(BitEqual(Product(*backend, a, no_cols, products).view(),
                           HostTensor::Zeros(DType::kF32, {2, 5}).view()));
    }
  }
}

TEST(QuantizedMatMulTest, ActivationsThatAreNotFiniteStayInTheirRow) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const HostTensor w = HostTensor::Random(DType::kF32, {20, 70}, 1);
    HostTensor a = HostTensor::Random(DType::kF32, {6, 70}, 2);
    a.Set(std::numeric_limits<double>::quiet_NaN(), 2, 69);
    for (const auto format : kFormats) {
      const Packed b = Pack(*backend, w, format);
      for (const DType products : kProducts) {
        const HostTensor out = Product(*backend, a, b.view, products);
        for (int64_t i = 0; i < 6; ++i) {
          for (int64_t j = 0; j < 20; ++j) {
            EXPECT_EQ(std::isnan(out.Get(i, j)), i == 2) << name;
          }
        }
      }
    }
  }
}

TEST(QuantizedMatMulTest, TinyAndHugeActivationsMatchTheReference) {
  const auto cpu = Open(kTested);
  const auto reference = Open("reference");
  const HostTensor w = HostTensor::Random(DType::kF32, {33, 65}, 1);
  for (const double scale : {1e-25, 1e25}) {
    const HostTensor a = HostTensor::Random(DType::kF32, {5, 65}, 2, scale);
    for (const auto format : kFormats) {
      const Packed b = Pack(*reference, w, format);
      for (const DType products : kProducts) {
        Tolerance t = SumTolerance(65);
        if (products == DType::kF32) {
          t.absolute = F32ProductTolerance(a, 1.0).absolute;
        }
        EXPECT_TRUE(TensorNear(Product(*cpu, a, b.view, products).view(),
                               Product(*reference, a, b.view, products).view(),
                               t));
      }
    }
  }
}

TEST(DequantizeRowsTest, GivesTheRowsExactly) {
  const HostTensor w = HostTensor::Random(DType::kF32, {130, 45}, 1);
  const HostTensor ids = HostTensor::Ints({5}, {129, 0, 64, 63, 0});
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    for (const auto format : kFormats) {
      const Packed m = Pack(*backend, w, format);
      HostTensor out = HostTensor::NaNs(DType::kF32, {5, 45}, 2);
      ASSERT_TRUE(Ok(backend->DequantizeRows(
          {.matrix = m.view, .ids = ids.view(), .out = out.view()})));
      EXPECT_TRUE(out.GapsUntouched());
      for (int64_t i = 0; i < 5; ++i) {
        const auto row = static_cast<int64_t>(ids.Get(i));
        for (int64_t c = 0; c < 45; ++c) {
          EXPECT_EQ(out.Get(i, c), Value(m.view, row, c));
        }
      }
    }
  }
}

TEST(QuantizedMatMulTest, RefusesBadParams) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const HostTensor w = HostTensor::Random(DType::kF32, {5, 40}, 1);
    const Packed b = Pack(*backend, w, QuantizedFormat::kInt8);
    HostTensor a = HostTensor::Random(DType::kF32, {3, 40}, 2);
    HostTensor out = HostTensor::NaNs(DType::kF32, {3, 5});
    const QuantizedMatMulParams good{
        .a = a.view(), .b = b.view, .out = out.view()};
    QuantizedMatMulParams p = good;
    p.b.cols = 41;
    EXPECT_TRUE(Refused(backend->QuantizedMatMul(p),
                        {"quantized_matmul", "a.shape[1] is 40", "41"}));
    p = good;
    p.b.rows = 6;
    EXPECT_TRUE(Refused(backend->QuantizedMatMul(p), {"out.shape[1] is 5"}));
    p = good;
    p.b.data = nullptr;
    EXPECT_TRUE(Refused(backend->QuantizedMatMul(p), {"b.data is null"}));
    p = good;
    p.b.data = static_cast<const char*>(b.view.data) + 32;
    EXPECT_TRUE(Refused(backend->QuantizedMatMul(p), {"b.data address", "32"}));
    p = good;
    p.b.format = static_cast<QuantizedFormat>(3);
    EXPECT_TRUE(Refused(backend->QuantizedMatMul(p), {"b.format is 3"}));
    p = good;
    p.a.dtype = DType::kBF16;
    EXPECT_TRUE(Refused(backend->QuantizedMatMul(p), {"a.dtype is bf16"}));
    p = good;
    p.out.data = a.view().data;
    EXPECT_TRUE(Refused(backend->QuantizedMatMul(p), {"out is overlapping a"}));
    p = good;
    p.products = DType::kI32;
    EXPECT_TRUE(Refused(backend->QuantizedMatMul(p), {"products is 2"}));
    const HostTensor ids = HostTensor::Ints({3}, {0, 5, 1});
    HostTensor rows = HostTensor::NaNs(DType::kF32, {3, 40});
    EXPECT_TRUE(
        Refused(backend->DequantizeRows(
                    {.matrix = b.view, .ids = ids.view(), .out = rows.view()}),
                {"dequantize_rows", "ids", "5"}));
    EXPECT_TRUE(
        BitEqual(rows.view(), HostTensor::NaNs(DType::kF32, {3, 40}).view()));
  }
}

}  // namespace
}  // namespace sinklora::kernels
