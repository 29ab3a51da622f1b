// SPDX-License-Identifier: Apache-2.0
#include "kernels/sampling/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/sampling/sampling_weight.h"
#include "tests/kernels/backends.h"

namespace sinklora::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// A row and its logits.
struct Case {
  std::string name;
  std::vector<float> logits;
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  double draw = 0;
};

std::vector<SampleRow> RowsOf(const std::vector<Case>& cases) {
  std::vector<SampleRow> rows;
  for (const Case& c : cases) {
    rows.push_back(
        {.logits = ConstTensorView(c.logits.data(), DType::kF32,
                                   {static_cast<int64_t>(c.logits.size())}),
         .temperature = c.temperature,
         .top_k = c.top_k,
         .top_p = c.top_p,
         .draw = c.draw});
  }
  return rows;
}

std::vector<int32_t> Sample(Backend& backend, const std::vector<Case>& cases) {
  std::vector<int32_t> ids(cases.size(), -77);
  const std::vector<SampleRow> rows = RowsOf(cases);
  EXPECT_TRUE(Ok(backend.SampleTokens({.rows = rows, .ids = ids.data()})));
  return ids;
}

int32_t SampleOne(Backend& backend, const Case& c) {
  return Sample(backend, {c})[0];
}

std::vector<float> RandomLogits(int64_t vocab, double spread, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0, spread);
  std::vector<float> out(static_cast<size_t>(vocab));
  for (float& x : out) x = static_cast<float>(normal(engine));
  return out;
}

// Rows of many kinds, each under many settings; fewer where that takes long.
std::vector<Case> ManyCases() {
  std::vector<std::pair<std::string, std::vector<float>>> rows;
  for (const int64_t vocab : {1, 2, 31, 1024, 1025, 5000}) {
    rows.emplace_back("random " + std::to_string(vocab),
                      RandomLogits(vocab, 3, 7 + vocab));
  }
  rows.emplace_back("sharp", RandomLogits(2000, 40, 1));
  rows.emplace_back("flat", RandomLogits(2000, 1e-6, 2));
  rows.emplace_back("all equal", std::vector<float>(1500, -3.25f));
  std::vector<float> few = RandomLogits(1300, 2, 3);
  for (float& x : few) x = std::round(x);  // many ties, and -0 beside 0
  rows.emplace_back("ties", few);
  std::vector<float> forbidden = RandomLogits(1100, 2, 4);
  for (size_t i = 0; i < forbidden.size(); i += 2) forbidden[i] = -kInf;
  rows.emplace_back("half forbidden", forbidden);
  std::vector<float> one(700, -kInf);
  one[699] = 5;
  rows.emplace_back("one allowed", one);
  rows.emplace_back("extreme", std::vector<float>{3e38f, -3e38f, 1e38f, 3e38f,
                                                  0.0f, 1e-45f, -kInf});

  std::vector<Case> out;
  std::mt19937_64 engine(5);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (const auto& [name, logits] : rows) {
    const auto vocab = static_cast<int64_t>(logits.size());
    for (const double temperature : {0.0, 1e-300, 0.3, 1.0, 10.0}) {
      for (const int64_t top_k :
           {int64_t{0}, int64_t{1}, int64_t{40}, vocab, vocab + 1}) {
        for (const double top_p : {1e-12, 0.5, 0.95, 1.0}) {
          const double draws[] = {0, uniform(engine), 1 - 0x1p-53};
          out.push_back(
              {name, logits, temperature, top_k, top_p, draws[out.size() % 3]});
        }
      }
    }
  }
  if (!Emulated()) return out;
  std::vector<Case> some;
  for (size_t i = 0; i < out.size(); i += 7) some.push_back(out[i]);
  return some;
}

// The choice in doubles, as books have it; -1 where rounding may decide.
int32_t ChosenInDoubles(const Case& c) {
  std::vector<int32_t> rank(c.logits.size());
  std::iota(rank.begin(), rank.end(), 0);
  std::sort(rank.begin(), rank.end(), [&](int32_t a, int32_t b) {
    return c.logits[a] != c.logits[b] ? c.logits[a] > c.logits[b] : a < b;
  });
  if (c.temperature == 0) return rank[0];
  if (c.top_k > 0 && c.top_k < static_cast<int64_t>(rank.size())) {
    rank.resize(static_cast<size_t>(c.top_k));
  }
  std::vector<double> cumulative;
  double total = 0;
  for (const int32_t id : rank) {
    const double gap = double{c.logits[id]} - double{c.logits[rank[0]]};
    cumulative.push_back(total += std::exp(gap / c.temperature));
  }
  const auto near = [&](double sum) {
    return std::any_of(cumulative.begin(), cumulative.end(), [&](double x) {
      return std::abs(x - sum) <= 1e-8 * total;
    });
  };
  const double least = c.top_p * total;
  if (c.top_p < 1 && near(least)) return -1;
  const size_t last = std::min<size_t>(
      std::lower_bound(cumulative.begin(), cumulative.end(), least) -
          cumulative.begin(),
      rank.size() - 1);
  const double drawn = c.draw * cumulative[last];
  if (c.draw > 0 && near(drawn)) return -1;
  return rank[std::upper_bound(cumulative.begin(), cumulative.end(), drawn) -
              cumulative.begin()];
}

TEST(SamplingTest, EveryBackendChoosesTheSameToken) {
  const std::vector<Case> cases = ManyCases();
  const std::vector<int32_t> want = Sample(*Open("reference"), cases);
  const std::vector<int32_t> got = Sample(*Open(kTested, 3), cases);
  int checked = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    SCOPED_TRACE(::testing::Message()
                 << c.name << ", temperature " << c.temperature << ", top_k "
                 << c.top_k << ", top_p " << c.top_p << ", draw " << c.draw);
    EXPECT_EQ(got[i], want[i]);
    const int32_t chosen = ChosenInDoubles(c);
    if (chosen < 0) continue;
    ++checked;
    EXPECT_EQ(got[i], chosen);
  }
  EXPECT_GT(checked, static_cast<int>(cases.size()) / 2);
}

TEST(SamplingTest, ARowIsChosenAsItIsAlone) {
  std::vector<Case> cases = ManyCases();
  for (size_t i = 0; i < cases.size(); i += 17) cases[i].logits[0] = NAN;
  const std::vector<int32_t> together = Sample(*Open(kTested, 2), cases);
  const auto alone = Open(kTested, 1);
  for (size_t i = 0; i < cases.size(); i += 5) {
    EXPECT_EQ(SampleOne(*alone, cases[i]), together[i]) << cases[i].name;
  }
}

class SamplingBackendTest : public ::testing::TestWithParam<const char*> {
 protected:
  const std::unique_ptr<Backend> backend_ = Open(GetParam());
};
INSTANTIATE_TEST_SUITE_P(All, SamplingBackendTest,
                         ::testing::Values("reference", kTested),
                         [](const auto& info) {
                           return std::string(info.param) == "reference"
                                      ? "reference"
                                      : "tested";
                         });

TEST_P(SamplingBackendTest, GreedyTakesTheLargestAndTheSmallerIdOfATie) {
  const auto greedy = [&](std::vector<float> logits) {
    return SampleOne(*backend_, {"", std::move(logits), 0});
  };
  EXPECT_EQ(greedy({0.5f, 2.0f, -1.0f}), 1);
  EXPECT_EQ(greedy({2.0f, 3.0f, 3.0f}), 1);
  EXPECT_EQ(greedy({-kInf, -5.0f}), 1);
  EXPECT_EQ(greedy({-1.0f, -0.0f, 0.0f}), 1);
}

// Probabilities .64 .24 .09 .03 in the order 1, 3, 2, 0.
TEST_P(SamplingBackendTest, CutsAndDrawsInTheOrderOfTheRank) {
  const auto chosen = [&](int64_t top_k, double top_p, double draw) {
    return SampleOne(*backend_,
                     {"", {0.0f, 3.0f, 1.0f, 2.0f}, 1.0, top_k, top_p, draw});
  };
  EXPECT_EQ(chosen(0, 1, 0), 1);
  EXPECT_EQ(chosen(0, 1, 0.643), 1);
  EXPECT_EQ(chosen(0, 1, 0.645), 3);
  EXPECT_EQ(chosen(0, 1, 0.880), 3);
  EXPECT_EQ(chosen(0, 1, 0.882), 2);
  EXPECT_EQ(chosen(0, 1, 0.969), 0);
  EXPECT_EQ(chosen(0, 1, 0.999999), 0);
  EXPECT_EQ(chosen(1, 1, 0.999999), 1);
  EXPECT_EQ(chosen(2, 1, 0.999999), 3);
  EXPECT_EQ(chosen(0, 0.6, 0.999999), 1);
  EXPECT_EQ(chosen(0, 0.8, 0.999999), 3);
  // .66 .24 .09 of the three: top_p counts after top_k.
  EXPECT_EQ(chosen(3, 0.95, 0.999999), 2);
  EXPECT_EQ(chosen(0, 0.97, 0.999999), 0);
}

TEST_P(SamplingBackendTest, TopKOfATieKeepsTheSmallerIds) {
  for (int64_t top_k = 1; top_k <= 4; ++top_k) {
    EXPECT_EQ(
        SampleOne(
            *backend_,
            {"", {1.0f, 2.0f, 1.0f, 1.0f, 1.0f}, 1.0, top_k, 1.0, 1 - 0x1p-53}),
        (std::vector<int32_t>{1, 0, 2, 3})[top_k - 1]);
  }
}

TEST_P(SamplingBackendTest, ABadRowNamesItsLogitAndLeavesTheOthers) {
  std::vector<float> bad(1500, 1.0f);
  bad[1400] = NAN;
  std::vector<float> worse = bad;
  worse[1300] = kInf;
  worse[20] = -NAN;
  for (const double temperature : {0.0, 1.0}) {
    EXPECT_EQ(Sample(*backend_, {{"", {1, 5, 2}, temperature, 1},
                                 {"", bad, temperature, 1},
                                 {"", worse, temperature},
                                 {"", {-kInf, -kInf}, temperature},
                                 {"", {kInf, 0}, temperature},
                                 {"", {-kInf, 0}, temperature}}),
              (std::vector<int32_t>{1, -1401, -21, -1, -1, 1}));
  }
}

TEST_P(SamplingBackendTest, RefusesBadParams) {
  const std::vector<float> logits{1, 2, 3};
  int32_t id = -7;
  const auto refused = [&](auto change,
                           std::initializer_list<std::string_view> parts) {
    std::vector<SampleRow> rows(
        2, {.logits = ConstTensorView(logits.data(), DType::kF32, {3})});
    std::vector<int32_t> ids(2, -7);
    change(&rows[1]);
    EXPECT_TRUE(Refused(
        backend_->SampleTokens({.rows = rows, .ids = ids.data()}), parts));
    EXPECT_EQ(ids[0], -7);
  };
  refused([](auto* r) { r->temperature = -1; },
          {"sample_tokens", "rows[1].temperature is -1"});
  refused([](auto* r) { r->temperature = NAN; }, {"temperature"});
  refused([](auto* r) { r->temperature = kInf; }, {"temperature"});
  refused([](auto* r) { r->top_k = -1; }, {"rows[1].top_k is -1"});
  refused([](auto* r) { r->top_p = 0; }, {"rows[1].top_p is 0"});
  refused([](auto* r) { r->top_p = 1.5; }, {"top_p"});
  refused([](auto* r) { r->draw = 1; }, {"rows[1].draw is 1"});
  refused([](auto* r) { r->draw = -0.1; }, {"draw"});
  refused([](auto* r) { r->logits.shape[0] = 0; }, {"logits.shape[0] is 0"});
  refused([](auto* r) { r->logits.shape[0] = kMaxSampledVocab + 1; },
          {"logits.shape[0] is 4194305"});
  EXPECT_TRUE(Ok(backend_->SampleTokens({.rows = {}, .ids = &id})));
  EXPECT_EQ(id, -7);
}

TEST(SampleWeightTest, IsTheExponentialToNinePlaces) {
  for (int i = 0; i < 20000; ++i) {
    const double halvings = i * 41.0 / 20000;
    const double want = std::exp2(kWeightBits - halvings);
    const auto got = static_cast<double>(SampleWeight(halvings, 1.0));
    EXPECT_TRUE(std::abs(got - want) <= want * 2e-9 + 1) << halvings;
  }
  EXPECT_EQ(SampleWeight(0, GapFactor(1e-300)), uint64_t{1} << kWeightBits);
  EXPECT_EQ(SampleWeight(INFINITY, GapFactor(1)), 0u);
  EXPECT_EQ(SampleWeight(INFINITY, 0), 0u);
  EXPECT_EQ(SampleWeight(41, 1), 0u);
}

TEST(SampleWeightTest, KeysAreInTheOrderOfTheLogits) {
  const std::vector<float> ascending{-kInf, -3e38f, -1.0f, -1e-45f,
                                     0.0f,  1e-45f, 1.0f,  3e38f};
  for (size_t i = 0; i < ascending.size(); ++i) {
    const uint32_t key = RankKey(std::bit_cast<uint32_t>(ascending[i]));
    EXPECT_EQ(std::bit_cast<float>(BitsOfRankKey(key)), ascending[i]);
    if (i == 0) continue;
    EXPECT_GT(key, RankKey(std::bit_cast<uint32_t>(ascending[i - 1])));
  }
  EXPECT_EQ(RankKey(std::bit_cast<uint32_t>(-0.0f)),
            RankKey(std::bit_cast<uint32_t>(0.0f)));
}

}  // namespace
}  // namespace sinklora::kernels
