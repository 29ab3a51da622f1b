// The softmax of attention with bf16 products, row by row against double, on
// machines that multiply bf16 pairs.
//
// SPDX-License-Identifier: Apache-2.0
#if defined(__x86_64__)
#include "kernels/attention/pair_softmax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/attention/pair_columns.h"
#include "kernels/cpu/cpu_isa.h"
#include "tests/kernels/tolerances.h"

namespace sinklora::kernels::cpu {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr double kTwoUlp = 4.0 * kF32Rounding;

class PairSoftmaxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (ActiveCpuIsa() < CpuIsa::kAvx512Bf16) {
      GTEST_SKIP() << "this instruction set does not multiply bf16 pairs";
    }
  }
};

// Row of scores and the weights it becomes; what is not seen is NaN before.
struct Row {
  std::vector<float> scores = std::vector<float>(kTile, kNaN);
  std::vector<bf16_t> weights = std::vector<bf16_t>(kTile, ToBf16(kNaN));

  float Weight(int64_t c) const { return FromBf16(weights[c]); }
};

// Seen where it is summed, in f32.
TEST_F(PairSoftmaxTest, ExponentialIsWithinTwoUlp) {
  std::mt19937_64 bits(5);
  std::uniform_real_distribution<float> exponents(-126.0f, 0.0f);
  for (int i = 0; i < 20000; ++i) {
    const float x = i < 127 ? -static_cast<float>(i) : exponents(bits);
    Row row;
    row.scores[0] = 0.0f;
    row.scores[1] = x;
    PairSoftmax state;
    PairSoftmaxRow(row.scores.data(), {0, 16, 0, 2}, 1.0f, row.weights.data(),
                   state);
    const double want = std::exp2(double{x});
    ASSERT_NEAR(state.sums[1], want, kTwoUlp * want) << x;
    ASSERT_EQ(row.Weight(1), FromBf16(ToBf16(state.sums[1])));
  }
}

TEST_F(PairSoftmaxTest, BelowTheNormalRangeIsZeroAndNaNStays) {
  Row row;
  row.scores = {3.0f, 3.0f - 126.5f, -kInf, 3.0f - 200.0f};
  row.scores.resize(kTile, kNaN);
  PairSoftmax state;
  PairSoftmaxRow(row.scores.data(), {0, 16, 0, 4}, 1.0f, row.weights.data(),
                 state);
  EXPECT_NEAR(state.Sum(), 1.0f, kTwoUlp);
  for (int64_t c = 1; c < 16; ++c) EXPECT_EQ(row.Weight(c), 0.0f) << c;
  row.scores[2] = kNaN;
  PairSoftmaxRow(row.scores.data(), {0, 16, 0, 4}, 1.0f, row.weights.data(),
                 state);
  EXPECT_TRUE(std::isnan(state.Sum()));
}

// Several visits with other columns and rising tops, as one softmax.
TEST_F(PairSoftmaxTest, VisitsAddUpToOneSoftmax) {
  std::mt19937_64 bits(7);
  std::normal_distribution<float> normal;
  constexpr float kFactor = 0.7f;
  const RowColumns visits[] = {
      {16, 32, 17, 18}, {0, 64, 0, 64}, {0, 48, 3, 47}, {32, 64, 33, 64}};
  PairSoftmax state;
  std::vector<double> seen;
  double sum_of_weights = 0;  // with the corrections that the caller makes
  for (const RowColumns& columns : visits) {
    Row row;
    for (int64_t c = columns.first; c < columns.limit; ++c) {
      row.scores[c] = 4.0f * normal(bits) + static_cast<float>(seen.size());
      seen.push_back(double{row.scores[c]} * kFactor);
    }
    sum_of_weights *= PairSoftmaxRow(row.scores.data(), columns, kFactor,
                                     row.weights.data(), state);
    for (int64_t c = 0; c < kTile; ++c) {
      if (c < columns.begin || c >= columns.end) {
        EXPECT_TRUE(std::isnan(row.Weight(c))) << "written: " << c;
        continue;
      }
      if (c < columns.first || c >= columns.limit) {
        EXPECT_EQ(row.Weight(c), 0.0f) << c;
      }
      sum_of_weights += row.Weight(c);
    }
  }
  double sum = 0;
  for (double score : seen) sum += std::exp2(score);
  const double lse = std::log(sum);
  EXPECT_NEAR(state.LogSumExp(), lse, 16.0 * kF32Rounding * lse);
  EXPECT_NEAR(sum_of_weights / state.Sum(), 1.0, kBF16Rounding);
}

TEST_F(PairSoftmaxTest, NothingButMinusInfinityWeighsNothing) {
  Row row;
  for (int64_t c = 0; c < 20; ++c) row.scores[c] = -kInf;
  PairSoftmax state;
  EXPECT_EQ(PairSoftmaxRow(row.scores.data(), {0, 32, 0, 20}, 1.0f,
                           row.weights.data(), state),
            1.0f);
  EXPECT_EQ(state.Sum(), 0.0f);
  for (int64_t c = 0; c < 32; ++c) EXPECT_EQ(row.Weight(c), 0.0f);
  row.scores[7] = 2.0f;
  PairSoftmaxRow(row.scores.data(), {0, 32, 0, 20}, 1.0f, row.weights.data(),
                 state);
  EXPECT_NEAR(state.Sum(), 1.0f, kTwoUlp);
  EXPECT_EQ(row.Weight(7), 1.0f);
}

// Visits whose first and last rows have no neighbour, with a causal edge and a
// window.
TEST_F(PairSoftmaxTest, GradientRowsEqualDouble) {
  std::mt19937_64 bits(11);
  std::normal_distribution<float> normal;
  constexpr float kFactor = 0.4f;
  std::vector<float> scores(kTile * kTile, kNaN), slopes(kTile * kTile, kNaN);
  std::vector<float> lse(kTile), delta(kTile);
  for (const auto& [begin, end, window] :
       {std::tuple<int64_t, int64_t, int64_t>{0, 64, 0},
        {5, 39, 0},
        {17, 64, 9}}) {
    const QueryTile query{.begin = 3, .rows = 61, .window = window};
    const Visit visit = MakeVisit(query, 0, begin, end);
    for (int64_t r = visit.first_row; r < visit.end_row; ++r) {
      lse[r] = 2.0f + normal(bits);
      delta[r] = normal(bits);
      for (int64_t c = visit.Begin(r); c < visit.Limit(r); ++c) {
        scores[r * kTile + c] = normal(bits);
        slopes[r * kTile + c] = normal(bits);
      }
    }
    std::vector<Bf16Pair> rows(kTile * kTile / 2), p(kTile * kTile / 2),
        ds(kTile * kTile / 2);
    PairGradientRows(visit, scores.data(), slopes.data(), lse.data(),
                     delta.data(), kFactor, {rows.data(), p.data(), ds.data()});
    const auto half = [](Bf16Pair pair, int64_t i) {
      return FromBf16(static_cast<bf16_t>(i % 2 == 0 ? pair : pair >> 16));
    };
    for (int64_t r = visit.first_row; r < visit.end_row; ++r) {
      for (int64_t c = begin / 16 * 16; c < (end + 15) / 16 * 16; ++c) {
        const bool sees = c >= visit.Begin(r) && c < visit.Limit(r);
        const double x = scores[r * kTile + c] * double{kFactor};
        const double want_p =
            sees ? std::exp2(x - lse[r] * 1.4426950408889634) : 0.0;
        const double want_ds =
            sees ? want_p * (double{slopes[r * kTile + c]} - delta[r]) : 0.0;
        const int64_t at = r / 2 * kTile + c;
        ASSERT_NEAR(half(p[at], r), want_p, kBF16Rounding * want_p);
        ASSERT_NEAR(half(ds[at], r), want_ds,
                    kBF16Rounding * std::abs(want_ds) + 1e-7);
        ASSERT_EQ(half(rows[r * kTile / 2 + c / 2], c), half(ds[at], r));
      }
    }
    // What is not wanted is not written, and the rest is the same.
    std::vector<Bf16Pair> alone(kTile * kTile / 2);
    PairGradientRows(visit, scores.data(), slopes.data(), lse.data(),
                     delta.data(), kFactor, {nullptr, p.data(), alone.data()});
    EXPECT_EQ(alone, ds);
    alone.assign(alone.size(), 0);
    PairGradientRows(visit, scores.data(), slopes.data(), lse.data(),
                     delta.data(), kFactor, {alone.data(), nullptr, nullptr});
    EXPECT_EQ(alone, rows);
  }
}

TEST_F(PairSoftmaxTest, ColumnsAreTurnedThereAndBack) {
  std::mt19937_64 bits(13);
  std::normal_distribution<float> normal;
  for (const int64_t head_dim : {8, 24, 64, 256}) {
    const int64_t pair_dim = PaddedHeadDim(head_dim);
    for (const int64_t count : {1, 2, 33, 64}) {
      const int64_t stride = head_dim + 3;
      std::vector<float> rows(count * stride);
      for (float& x : rows) x = normal(bits);
      std::vector<Bf16Pair> columns(pair_dim * kTile / 2, 7);
      PairColumns(rows.data(), stride, count, head_dim, pair_dim, 0.5f,
                  columns.data());
      std::vector<float> turned(pair_dim * kTile);
      for (int64_t i = 0; i < pair_dim; ++i) {
        for (int64_t r = 0; r < kTile; ++r) {
          const Bf16Pair pair = columns[i * kTile / 2 + r / 2];
          const float got =
              FromBf16(static_cast<bf16_t>(r % 2 == 0 ? pair : pair >> 16));
          const bool exists = r < count && i < head_dim;
          const float want = exists ? 0.5f * rows[r * stride + i] : 0.0f;
          ASSERT_EQ(got, FromBf16(ToBf16(want))) << i << ", " << r;
          turned[i * kTile + r] = got;
        }
      }
      std::vector<float> back(count * stride, 9.0f);
      StoreColumns(turned.data(), count, head_dim, back.data(), stride);
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t i = 0; i < stride; ++i) {
          ASSERT_EQ(back[r * stride + i],
                    i < head_dim ? turned[i * kTile + r] : 9.0f);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sinklora::kernels::cpu
#endif
