// SPDX-License-Identifier: Apache-2.0
#include "common/model/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "common/base/random.h"
#include "tests/common/model/model_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

SampleRequest RequestOf(const std::vector<float>& logits,
                        const SamplingOptions& options, int64_t index = 0) {
  return {
      .logits = kernels::ConstTensorView(logits.data(), kernels::DType::kF32,
                                         {static_cast<int64_t>(logits.size())}),
      .options = options,
      .index = index};
}

absl::StatusOr<int32_t> SampleToken(const std::vector<float>& logits,
                                    const SamplingOptions& options,
                                    int64_t index) {
  static const auto backend = OpenTestBackend("cpu");
  const SampleRequest request = RequestOf(logits, options, index);
  return SampleTokens(backend.get(), {&request, 1}).front();
}

int32_t Sample(const std::vector<float>& logits, const SamplingOptions& options,
               int64_t index = 0) {
  const auto token = SampleToken(logits, options, index);
  EXPECT_TRUE(token.ok()) << token.status();
  return token.value_or(-1);
}

TEST(SamplerTest, GreedyTakesTheLargestAndTheSmallerIdOfATie) {
  EXPECT_EQ(Sample({0.5f, 2.0f, -1.0f}, {}), 1);
  EXPECT_EQ(Sample({2.0f, 3.0f, 3.0f}, {}), 1);
  EXPECT_EQ(Sample({-INFINITY, -5.0f}, {}), 1);
}

TEST(SamplerTest, FollowsTheDistribution) {
  SamplingOptions o;
  o.temperature = 2.0;
  o.seed = 11;
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f};
  std::map<int32_t, int> counts;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++counts[Sample(logits, o, i)];
  const double total = 1 + std::exp(0.5) + std::exp(1.0);
  for (int id = 0; id < 3; ++id) {
    const double p = std::exp(id * 0.5) / total;
    EXPECT_NEAR(counts[id] / static_cast<double>(kDraws), p, 0.015) << id;
  }
}

TEST(SamplerTest, TopKAndTopPCutTheTail) {
  SamplingOptions o;
  o.temperature = 1.0;
  const std::vector<float> logits = {0.0f, 3.0f, 1.0f, 2.0f};
  const auto drawn = [&] {
    std::set<int32_t> out;
    for (int i = 0; i < 2000; ++i) out.insert(Sample(logits, o, i));
    return out;
  };
  EXPECT_EQ(drawn(), (std::set<int32_t>{0, 1, 2, 3}));
  o.top_k = 2;
  EXPECT_EQ(drawn(), (std::set<int32_t>{1, 3}));
  o.top_k = 1;
  EXPECT_EQ(drawn(), (std::set<int32_t>{1}));
  o.top_k = 0;
  o.top_p = 0.6;  // probabilities .64 .24 .09 .03
  EXPECT_EQ(drawn(), (std::set<int32_t>{1}));
  o.top_p = 0.8;
  EXPECT_EQ(drawn(), (std::set<int32_t>{1, 3}));
  o.top_k = 3;  // .66 .24 .09 of the three: top_p counts after top_k
  o.top_p = 0.95;
  EXPECT_EQ(drawn(), (std::set<int32_t>{1, 2, 3}));
}

TEST(SamplerTest, IsAFunctionOfSeedAndIndex) {
  SamplingOptions a, b;
  a.temperature = b.temperature = 5.0;
  b.seed = 1;
  const std::vector<float> logits(100, 0.0f);
  int differ = 0;
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(Sample(logits, a, i), Sample(logits, a, i));
    differ += Sample(logits, a, i) != Sample(logits, b, i) ? 1 : 0;
  }
  EXPECT_GT(differ, 40);
}

// The draw of a token is the same in all versions: seeds that were written down
// go on giving the texts they gave.
TEST(SamplerTest, DrawsByCounter) {
  SamplingOptions o;
  o.temperature = 1;
  o.seed = 0x123456789abcdef;
  const std::vector<float> logits(1000, 0.25f);
  for (int64_t i = 0; i < 100; ++i) {
    const double draw = CounterRng(o.seed, 0x53414d504c45).Uniform(i);
    EXPECT_EQ(Sample(logits, o, i), static_cast<int32_t>(draw * 1000)) << i;
  }
}

TEST(SamplerTest, ARequestThatCannotBeLeavesTheOthers) {
  const auto backend = OpenTestBackend("cpu");
  const std::vector<float> good = {1, 3, 2}, bad = {1, NAN}, none;
  const std::vector<SampleRequest> requests = {
      RequestOf(good, {}), RequestOf(bad, {}), RequestOf(none, {}),
      RequestOf(good, {.temperature = -1}),
      RequestOf(good, {.temperature = 1, .top_k = 1})};
  const auto outcomes = SampleTokens(backend.get(), requests);
  ASSERT_EQ(outcomes.size(), 5);
  ASSERT_OK(outcomes[0]);
  EXPECT_EQ(*outcomes[0], 1);
  EXPECT_THAT(outcomes[1], StatusIs(absl::StatusCode::kInternal,
                                    HasSubstr("logit of token 1 is nan")));
  EXPECT_THAT(outcomes[2], StatusIs(absl::StatusCode::kInvalidArgument,
                                    HasSubstr("logits are empty")));
  EXPECT_THAT(outcomes[3], StatusIs(absl::StatusCode::kInvalidArgument,
                                    HasSubstr("temperature is -1")));
  ASSERT_OK(outcomes[4]);
  EXPECT_EQ(*outcomes[4], 1);
  EXPECT_TRUE(SampleTokens(backend.get(), {}).empty());
}

TEST(SamplerTest, RefusesNonFiniteLogits) {
  for (const float bad : {NAN, INFINITY}) {
    const auto token = SampleToken(std::vector<float>{1.0f, bad}, {}, 0);
    EXPECT_THAT(token, StatusIs(absl::StatusCode::kInternal));
    EXPECT_EQ(GetErrorDetail(token.status()).reason, "NON_FINITE_LOGITS");
  }
  EXPECT_THAT(SampleToken(std::vector<float>{-INFINITY, -INFINITY}, {}, 0),
              StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(SampleToken(std::vector<float>{}, {}, 0),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(SamplerTest, RejectsByName) {
  const auto rejects = [](SamplingOptions o, const char* field) {
    EXPECT_THAT(Validate(o),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
  };
  rejects({.temperature = 10.5}, "temperature is 10.5");
  rejects({.temperature = NAN}, "temperature");
  rejects({.top_k = -1}, "top_k is -1");
  rejects({.top_p = 0}, "top_p is 0");
  rejects({.top_p = 1.5}, "top_p is 1.5");
  EXPECT_OK(Validate(SamplingOptions()));
}

}  // namespace
}  // namespace sinklora
