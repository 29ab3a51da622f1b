// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/quantized_matmul/packed.h"

namespace sinklora::kernels {
namespace {

using testing::HostTensor;

constexpr QuantizedFormat kFormats[] = {QuantizedFormat::kInt8,
                                        QuantizedFormat::kInt4};

struct Shape {
  int64_t rows, cols;
};
constexpr Shape kShapes[] = {{1, 1},   {1, 32},  {2, 31},   {63, 33},
                             {64, 64}, {65, 65}, {127, 95}, {130, 7}};

// What the contract says about one block.
void CheckBlock(const HostTensor& weight, const QuantizedMatrix& m, int64_t row,
                int64_t begin) {
  const int64_t end = std::min(m.cols, begin + kQuantizedBlock);
  double top = 0;
  for (int64_t c = begin; c < end; ++c) {
    top = std::max(top, std::abs(weight.Get(row, c)));
  }
  double squares = 0;
  for (int64_t c = begin; c < end; ++c) {
    const double error = std::abs(weight.Get(row, c) - Value(m, row, c));
    squares += error * error;
    if (top < kQuantizedTiny) {
      EXPECT_EQ(Value(m, row, c), 0) << row << ' ' << c;
    } else if (m.format == QuantizedFormat::kInt8) {
      EXPECT_LE(error, top / 254 * (1 + 0x1p-8)) << row << ' ' << c;
    }
  }
  const double rms = std::sqrt(squares / kQuantizedBlock);
  EXPECT_LE(rms, std::max<double>(14.3 / 127 * top, kQuantizedTiny)) << row;
}

void CheckErrors(const HostTensor& weight, const QuantizedMatrix& m) {
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.cols; c += kQuantizedBlock) {
      CheckBlock(weight, m, r, c);
    }
  }
}

TEST(QuantizeTest, ErrorsStayWithinTheContractsBounds) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    for (const auto format : kFormats) {
      for (const Shape& s : kShapes) {
        for (const DType dtype : {DType::kF32, DType::kBF16}) {
          const HostTensor w = HostTensor::Random(dtype, {s.rows, s.cols},
                                                  s.rows * 7 + s.cols, 0.3, 3);
          SCOPED_TRACE(std::string(name) + NameOf(format));
          CheckErrors(w, Pack(*backend, w, format).view);
        }
      }
    }
  }
}

TEST(QuantizeTest, WhatLiesBeyondTheMatrixIsZero) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    for (const auto format : kFormats) {
      const HostTensor w = HostTensor::Random(DType::kF32, {65, 33}, 3);
      const Packed packed = Pack(*backend, w, format);
      QuantizedMatrix whole = packed.view;
      whole.rows = 128;
      whole.cols = 64;
      for (int64_t r = 0; r < whole.rows; ++r) {
        for (int64_t c = 0; c < whole.cols; ++c) {
          if (r < 65 && c < 33) continue;
          ASSERT_EQ(Value(whole, r, c), 0);
        }
      }
    }
  }
}

TEST(QuantizeTest, ExtremeWeightsKeepTheBounds) {
  constexpr float kMax = std::numeric_limits<float>::max();
  constexpr float kDenormal = 1e-41f;
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    for (const auto format : kFormats) {
      SCOPED_TRACE(std::string(name) + NameOf(format));
      HostTensor w = HostTensor::Random(DType::kF32, {12, 32}, 11);
      for (int64_t c = 0; c < 32; ++c) {
        w.Set(0, 0, c);     // all zeros
        w.Set(-0.0, 1, c);  // all negative zeros
        w.Set(c % 2 == 0 ? kMax : -kMax, 2, c);
        w.Set(kDenormal * c, 3, c);          // vanishes
        w.Set(c == 9 ? -1e30 : 1e-3, 4, c);  // an outlier
        w.Set(0.25, 5, c);                   // all equal
        w.Set(c == 31 ? 1e-20 : 0, 6, c);    // one value
        w.Set(w.Get(7, c) * 1e-29, 7, c);    // near the least scale
        w.Set(c * 1e36, 8, c);
        w.Set(-0.5, 9, c);
        w.Set(kQuantizedTiny, 10, c);
      }
      const Packed packed = Pack(*backend, w, format);
      CheckErrors(w, packed.view);
      for (int64_t c = 0; c < 32; ++c) {
        EXPECT_EQ(Value(packed.view, 0, c), 0);
        EXPECT_EQ(Value(packed.view, 1, c), 0);
        EXPECT_TRUE(std::isfinite(Value(packed.view, 2, c)));
      }
    }
  }
}

double SquaredError(const HostTensor& w, const QuantizedMatrix& m) {
  double sum = 0;
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.cols; ++c) {
      const double e = w.Get(r, c) - Value(m, r, c);
      sum += e * e;
    }
  }
  return sum;
}

// The figures of quantized_matrix.h.
TEST(QuantizeTest, NormalWeightsLoseWhatTheHeaderSays) {
  const HostTensor w = HostTensor::Random(DType::kF32, {256, 512}, 5, 0.02);
  double squares = 0;
  for (int64_t r = 0; r < 256; ++r) {
    for (int64_t c = 0; c < 512; ++c) squares += std::pow(w.Get(r, c), 2);
  }
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const auto loss = [&](QuantizedFormat format) {
      return std::sqrt(SquaredError(w, Pack(*backend, w, format).view) /
                       squares);
    };
    EXPECT_NEAR(loss(QuantizedFormat::kInt8), 0.0054, 0.0002) << name;
    EXPECT_NEAR(loss(QuantizedFormat::kInt4), 0.0740, 0.0010) << name;
  }
}

// The fast search finds as good scales as the naive one in double; codes may
// differ where both are equally near.
TEST(QuantizeTest, SearchesAsWellAsTheReference) {
  const HostTensor w = HostTensor::Random(DType::kF32, {70, 100}, 8);
  const auto reference = Open("reference");
  const auto cpu = Open(kTested);
  for (const auto format : kFormats) {
    const double want = SquaredError(w, Pack(*reference, w, format).view);
    const double got = SquaredError(w, Pack(*cpu, w, format).view);
    EXPECT_NEAR(got, want, 1e-3 * want) << NameOf(format);
  }
}

TEST(QuantizeTest, ThreadsDoNotChangeBits) {
  const HostTensor w = HostTensor::Random(DType::kBF16, {700, 77}, 13);
  for (const auto format : kFormats) {
    const auto one = Open(kTested, 1);
    const Packed want = Pack(*one, w, format);
    for (const int threads : {2, 3, 5}) {
      const auto cpu = Open(kTested, threads);
      const Packed got = Pack(*cpu, w, format);
      EXPECT_EQ(std::memcmp(got.buffer.data(), want.buffer.data(),
                            want.buffer.size_bytes()),
                0);
    }
  }
}

TEST(QuantizeTest, RefusesBadParams) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    HostTensor w = HostTensor::Random(DType::kF32, {5, 40}, 1);
    std::vector<char> memory(
        QuantizedBytes(QuantizedFormat::kInt8, 5, 40) + 128, 'x');
    const std::vector<char> before = memory;
    const auto start = reinterpret_cast<uintptr_t>(memory.data());
    void* out = memory.data() + (64 - start % 64) % 64;
    const QuantizeParams good{.weight = w.view(), .out = out};
    QuantizeParams p = good;
    p.out = nullptr;
    EXPECT_TRUE(Refused(backend->Quantize(p), {"quantize", "out is null"}));
    p.out = static_cast<char*>(out) + 4;
    EXPECT_TRUE(Refused(backend->Quantize(p), {"out address", "4"}));
    p = good;
    p.weight.dtype = DType::kI32;
    EXPECT_TRUE(Refused(backend->Quantize(p), {"weight.dtype is i32", "f32"}));
    p = good;
    p.format = static_cast<QuantizedFormat>(7);
    EXPECT_TRUE(Refused(backend->Quantize(p), {"format is 7"}));
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(),
                             -std::numeric_limits<double>::infinity()}) {
      w.Set(bad, 3, 39);
      EXPECT_TRUE(
          Refused(backend->Quantize(good), {"weight[3][39]", "finite"}));
    }
    EXPECT_EQ(memory, before);
  }
}

}  // namespace
}  // namespace sinklora::kernels
