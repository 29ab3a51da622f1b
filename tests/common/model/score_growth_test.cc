// Scores of very long prompts: f32 sums far beyond what f16 could hold still
// grow by what was paid, to the tolerance that serving checks.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "common/model/internal/device_tensor.h"
#include "common/model/internal/eviction.h"
#include "tests/common/model/model_fixture.h"

namespace sinklora {
namespace {

using internal::DeviceTensor;
using kernels::DType;

constexpr int64_t kTokens = 40;
constexpr int64_t kHeads = 4;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kHeadDim = 8;
constexpr double kLargestHalf = 65504;

class ScoreGrowthTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    backend_ = OpenTestBackend(GetParam());
    q_ = Random({kTokens, kHeads, kHeadDim}, 1);
    k_ = Random({kKvHeads, kTokens, kHeadDim}, 2);
    v_ = Random({kKvHeads, kTokens, kHeadDim}, 3);
    std::vector<int32_t> positions(kTokens);
    std::iota(positions.begin(), positions.end(), 0);
    position_ = Make(DType::kI32, {kTokens});
    ASSERT_OK(internal::Upload(backend_.get(), positions, position_.view()));
    std::vector<int32_t> slots(positions);
    slots.insert(slots.end(), positions.begin(), positions.end());
    slots_ = Make(DType::kI32, {kKvHeads, kTokens});
    ASSERT_OK(internal::Upload(backend_.get(), slots, slots_.view()));
    out_ = Make(DType::kF32, {kTokens, kHeads, kHeadDim});
    lse_ = Make(DType::kF32, {kHeads, kTokens});
    ASSERT_OK(ToAbsl(backend_->CacheAttention({.q = q_.view(),
                                               .position = position_.view(),
                                               .cache = Cache(),
                                               .scale = kScale,
                                               .out = out_.view(),
                                               .lse = lse_.view()})));
  }

  DeviceTensor Make(DType dtype, std::initializer_list<int64_t> shape) {
    auto tensor = DeviceTensor::Create(backend_.get(), dtype, shape);
    EXPECT_OK(tensor);
    return *std::move(tensor);
  }
  DeviceTensor Random(std::initializer_list<int64_t> shape, uint64_t seed) {
    DeviceTensor tensor = Make(DType::kF32, shape);
    std::mt19937_64 bits(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(tensor.size_bytes() / 4));
    for (float& x : values) x = normal(bits);
    EXPECT_OK(internal::Upload(backend_.get(), values, tensor.view()));
    return tensor;
  }
  // Slot and position are the same number in both heads.
  kernels::CacheView Cache() {
    return {k_.view(), v_.view(), slots_.view(), kTokens};
  }
  // Scores after all queries, of which every head's token `heavy` had `seed`.
  std::vector<float> ScoresAfter(float seed, int64_t heavy) {
    const DeviceTensor scores = Make(DType::kF32, {kKvHeads, kTokens});
    std::vector<float> values(kKvHeads * kTokens, 0.0f);
    for (int64_t h = 0; h < kKvHeads; ++h) values[h * kTokens + heavy] = seed;
    EXPECT_OK(internal::Upload(backend_.get(), values, scores.view()));
    EXPECT_OK(ToAbsl(backend_->CacheColumnSums({.q = q_.view(),
                                                .position = position_.view(),
                                                .lse = lse_.view(),
                                                .cache = Cache(),
                                                .scale = kScale,
                                                .scores = scores.view()})));
    auto after = internal::Download(backend_.get(), scores.view());
    EXPECT_OK(after);
    return *std::move(after);
  }

  static constexpr float kScale = 0.35f;
  std::unique_ptr<kernels::Backend> backend_;
  DeviceTensor q_, k_, v_, position_, slots_, out_, lse_;
};

TEST_P(ScoreGrowthTest, BeyondTheLargestHalfFloat) {
  constexpr int64_t kHeavy = 3;
  constexpr double kGrown = kTokens * (kHeads / kKvHeads);
  const std::vector<float> fresh = ScoresAfter(0, kHeavy);
  for (const float seed : {7e4f, 1e6f}) {
    const std::vector<float> after = ScoresAfter(seed, kHeavy);
    for (int64_t h = 0; h < kKvHeads; ++h) {
      double sum = 0;
      for (int64_t j = 0; j < kTokens; ++j) {
        const float score = after[h * kTokens + j];
        sum += score;
        // The others are none the wiser.
        if (j != kHeavy) {
          EXPECT_EQ(score, fresh[h * kTokens + j]) << j;
        }
      }
      const double tolerance = internal::ScoreTolerance(kGrown, sum);
      EXPECT_TRUE(std::abs(sum - seed - kGrown) <= tolerance)
          << "grew by " << sum - seed << " from " << seed;
      // A check that fails when a tenth of it goes missing.
      EXPECT_LT(tolerance, kGrown / 10);
      const float heavy = after[h * kTokens + kHeavy];
      EXPECT_GT(heavy, seed);
      EXPECT_GT(heavy, kLargestHalf);
      EXPECT_TRUE(std::isfinite(heavy));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, ScoreGrowthTest,
                         ::testing::Values("cpu", "reference"));

}  // namespace
}  // namespace sinklora
