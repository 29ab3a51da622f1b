// SPDX-License-Identifier: Apache-2.0
#include "common/base/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace sinklora {
namespace {

using ::testing::ElementsAre;

// Known-answer vectors of the Random123 distribution (philox 4x32, 10 rounds).
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_THAT(Philox4x32(0, {0, 0, 0, 0}),
              ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(Philox4x32(~uint64_t{0}, {~0u, ~0u, ~0u, ~0u}),
              ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(Philox4x32(0x299f31d0a4093822u,
                         {0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}),
              ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(CounterRngTest, IsAFunctionOfSeedStreamAndIndex) {
  const CounterRng a(1, 2);
  EXPECT_EQ(a.Bits(7), CounterRng(1, 2).Bits(7));
  std::set<uint64_t> seen;
  for (uint64_t seed : {1, 2}) {
    for (uint64_t stream : {1, 2}) {
      for (uint64_t index = 0; index < 100; ++index) {
        seen.insert(CounterRng(seed, stream).Bits(index));
      }
    }
  }
  EXPECT_EQ(seen.size(), 400u);
}

TEST(CounterRngTest, UniformMoments) {
  const CounterRng rng(3, 0);
  constexpr int kSamples = 100'000;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kSamples; ++i) {
    const double u = rng.Uniform(i);
    ASSERT_TRUE(u >= 0 && u < 1);
    sum += u;
    squares += u * u;
  }
  // Five standard errors.
  EXPECT_TRUE(std::abs(sum / kSamples - 0.5) < 0.0046);
  EXPECT_TRUE(std::abs(squares / kSamples - 1.0 / 3) < 0.0048);
}

TEST(CounterRngTest, NormalMoments) {
  const CounterRng rng(4, 0);
  constexpr int kSamples = 100'000;
  double sum = 0;
  double squares = 0;
  int beyond_two = 0;
  for (int i = 0; i < kSamples; ++i) {
    const double x = rng.Normal(i);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    beyond_two += std::abs(x) > 2 ? 1 : 0;
  }
  EXPECT_TRUE(std::abs(sum / kSamples) < 0.016);
  EXPECT_TRUE(std::abs(squares / kSamples - 1) < 0.023);
  // 2 (1 - Phi(2)) = 4.55 %.
  EXPECT_TRUE(std::abs(beyond_two - 4550) < 330);
}

TEST(CounterRngTest, BelowIsEven) {
  const CounterRng rng(5, 0);
  constexpr int kSamples = 70'000;
  std::vector<int> counts(7);
  for (int i = 0; i < kSamples; ++i) ++counts.at(rng.Below(i, 7));
  for (int count : counts) EXPECT_TRUE(std::abs(count - 10'000) < 470);
  EXPECT_EQ(rng.Below(0, 1), 0u);
  EXPECT_LT(rng.Below(0, ~uint64_t{0}), ~uint64_t{0});
}

TEST(PermutationTest, HoldsEachNumberOnceAndDependsOnSeedAndStream) {
  const std::vector<int64_t> order = Permutation(6, 0, 1000);
  std::vector<int64_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> expected(1000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(sorted, expected);
  EXPECT_NE(order, expected);
  EXPECT_EQ(order, Permutation(6, 0, 1000));
  EXPECT_NE(order, Permutation(6, 1, 1000));
  EXPECT_NE(order, Permutation(7, 0, 1000));
  EXPECT_TRUE(Permutation(6, 0, 0).empty());
  EXPECT_THAT(Permutation(6, 0, 1), ElementsAre(0));
}

TEST(PermutationTest, AllOrdersAreReached) {
  std::vector<int> counts(6);
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    const std::vector<int64_t> p = Permutation(seed, 0, 3);
    ++counts.at(2 * p[0] + (p[1] > p[2] ? 1 : 0));
  }
  for (int count : counts) EXPECT_TRUE(std::abs(count - 1000) < 150);
}

}  // namespace
}  // namespace sinklora
