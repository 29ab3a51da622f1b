// The small products of attention in AMX tiles, against double, on machines
// that have them.
//
// SPDX-License-Identifier: Apache-2.0
#if defined(__x86_64__)
#include "kernels/cpu/amx_tile_gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/amx.h"
#include "tests/kernels/tolerances.h"

namespace sinklora::kernels::cpu {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A product [rows][cols] over [begin, end) of 64 or more elements.
struct Case {
  int64_t begin, end, rows, cols;
  bool accumulate;
};

class Operands {
 public:
  // What lies outside of the product is NaN.
  explicit Operands(const Case& c)
      : c_(c),
        depth_((c.end + 31) / 32 * 32),
        a_(64 * depth_, ToBf16(kNaN)),
        b_(depth_ * kColumns, ToBf16(kNaN)),
        out_(64 * kColumns, 7.0f) {
    std::mt19937_64 bits(static_cast<uint64_t>(c.end * 977 + c.rows));
    std::normal_distribution<float> normal;
    for (int64_t k = c.begin; k < c.end; ++k) {
      for (int64_t r = 0; r < c.rows; ++r) A(r, k) = ToBf16(normal(bits));
      for (int64_t j = 0; j < c.cols; ++j) B(k, j) = ToBf16(normal(bits));
    }
    for (int64_t r = 0; r < c.rows; ++r) {
      for (int64_t j = 0; j < c.cols; ++j) {
        Out(r, j) = c.accumulate ? normal(bits) : kNaN;
      }
    }
  }

  bf16_t& A(int64_t r, int64_t k) { return a_[r * depth_ + k]; }
  bf16_t& B(int64_t k, int64_t j) {
    return b_[(k / 2 * kColumns + j) * 2 + k % 2];
  }
  float& Out(int64_t r, int64_t j) { return out_[r * kColumns + j]; }

  // Rows [first, first + rows) of the product.
  void Multiply(int64_t first, int64_t rows) {
    const TileScope tiles;
    const int64_t a_row = depth_ / 2;
    const Bf16GemmTile tile{
        reinterpret_cast<const Bf16Pair*>(a_.data()) + first * a_row,
        a_row,
        1,
        reinterpret_cast<const Bf16Pair*>(b_.data()),
        kColumns,
        out_.data() + first * kColumns,
        kColumns,
        c_.accumulate};
    AmxTileGemm(tile, c_.begin, c_.end, rows, c_.cols);
  }
  double Want(int64_t r, int64_t j) {
    double sum = c_.accumulate ? Out(r, j) : 0.0;
    for (int64_t k = c_.begin; k < c_.end; ++k) {
      sum += double{FromBf16(A(r, k))} * FromBf16(B(k, j));
    }
    return sum;
  }
  const std::vector<float>& out() const { return out_; }

 private:
  static constexpr int64_t kColumns = 256;
  const Case c_;
  const int64_t depth_;
  std::vector<bf16_t> a_, b_;  // pairs: two bf16 each
  std::vector<float> out_;
};

std::vector<Case> Cases() {
  std::vector<Case> out;
  for (const bool accumulate : {false, true}) {
    for (const auto& [begin, end] :
         std::vector<std::pair<int64_t, int64_t>>{{0, 64},
                                                  {0, 1},
                                                  {3, 4},
                                                  {5, 37},
                                                  {31, 33},
                                                  {32, 64},
                                                  {33, 63},
                                                  {0, 40}}) {
      for (const auto& [rows, cols] : std::vector<std::pair<int64_t, int64_t>>{
               {64, 64}, {1, 8}, {6, 128}, {17, 24}, {16, 16}, {49, 256}}) {
        out.push_back({begin, end, rows, cols, accumulate});
      }
    }
  }
  for (const int64_t end : {80, 128, 200, 256}) {
    out.push_back({0, end, 64, 64, false});
    out.push_back({0, end, 33, 48, true});
  }
  return out;
}

class AmxTileGemmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!AmxUsable()) GTEST_SKIP() << "this machine has no AMX tiles";
  }
};

TEST_F(AmxTileGemmTest, EqualsDoubleAndReadsAndWritesNothingElse) {
  for (const Case& c : Cases()) {
    Operands x(c);
    std::vector<double> want;
    double largest = 0;
    for (int64_t r = 0; r < c.rows; ++r) {
      for (int64_t j = 0; j < c.cols; ++j) {
        want.push_back(x.Want(r, j));
        largest = std::max(largest, std::abs(want.back()));
      }
    }
    const testing::Tolerance tolerance = SumTolerance(c.end - c.begin + 1);
    const double limit = (tolerance.relative + tolerance.of_largest) * largest;
    x.Multiply(0, c.rows);
    for (int64_t r = 0; r < 64; ++r) {
      for (int64_t j = 0; j < 256; ++j) {
        if (r >= c.rows || j >= c.cols) {
          ASSERT_EQ(x.Out(r, j), 7.0f);
          continue;
        }
        // Negated, so that NaN fails.
        ASSERT_FALSE(!(std::abs(x.Out(r, j) - want[r * c.cols + j]) <= limit))
            << r << ", " << j << " of " << c.rows << " x " << c.cols
            << " over [" << c.begin << ", " << c.end << ")";
      }
    }
  }
}

// A row has the same bits in whatever block it is computed.
TEST_F(AmxTileGemmTest, RowsDoNotDependOnTheirBlock) {
  for (const Case& c : Cases()) {
    Operands whole(c), parts(c);
    whole.Multiply(0, c.rows);
    for (int64_t r = 0; r < c.rows; r += 5) {
      parts.Multiply(r, std::min<int64_t>(5, c.rows - r));
    }
    ASSERT_EQ(std::memcmp(whole.out().data(), parts.out().data(),
                          whole.out().size() * sizeof(float)),
              0);
  }
}

}  // namespace
}  // namespace sinklora::kernels::cpu
#endif
