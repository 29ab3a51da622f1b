// Gradients against central finite differences of an attention written in
// double in the test.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <tuple>

#include "tests/kernels/attention/attention_fixture.h"
#include "tests/kernels/attention/dense_attention.h"
#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::HostTensor;
using testing::TensorNear;

// Truncation of a central difference in double is about step^2 = 1e-8.
constexpr double kStep = 1e-4;
constexpr double kDifferenceError = 1e-7;

struct Problem {
  Cube q, k, v, dout;
  const AttentionPattern& pattern;
  double scale;

  // sum of out * dout, whose gradients the backward pass returns.
  double Loss() const {
    const Cube out = DenseAttention(q, k, v, pattern, scale);
    double loss = 0.0;
    for (size_t i = 0; i < out.values.size(); ++i) {
      loss += out.values[i] * dout.values[i];
    }
    return loss;
  }

  HostTensor Differences(Cube Problem::*input) {
    Cube& x = this->*input;
    HostTensor gradient =
        HostTensor::Zeros(DType::kF32, {x.tokens, x.heads, x.dim});
    for (int64_t t = 0; t < x.tokens; ++t) {
      for (int64_t h = 0; h < x.heads; ++h) {
        for (int64_t d = 0; d < x.dim; ++d) {
          const double before = x.at(t, h, d);
          x.at(t, h, d) = before + kStep;
          const double above = Loss();
          x.at(t, h, d) = before - kStep;
          const double below = Loss();
          x.at(t, h, d) = before;
          gradient.Set((above - below) / (2.0 * kStep), t, h, d);
        }
      }
    }
    return gradient;
  }
};

class AttentionGradientTest
    : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

INSTANTIATE_TEST_SUITE_P(
    All, AttentionGradientTest,
    ::testing::Combine(::testing::Values("reference", "tested"),
                       ::testing::ValuesIn(PatternNames())),
    [](const auto& info) {
      return std::get<0>(info.param) + "_" + std::get<1>(info.param);
    });

TEST_P(AttentionGradientTest, EqualsCentralDifferences) {
  const auto& [backend_name, name] = GetParam();
  const auto backend =
      Open(backend_name == "reference" ? backend_name : kTested);
  const auto pattern = MakePattern(name, 4, 5, {11, 6}, 1).pattern;
  const AttentionInputs in = MakeInputs(19, 4, 2, 8, 7);
  const AttentionResults got = RunBoth(*backend, in, pattern);
  Problem problem{Cube(in.q),    Cube(in.k), Cube(in.v),
                  Cube(in.dout), pattern,    double{in.scale}};
  auto tolerance = AttentionGradientTolerance(8, 19, 6.0);
  tolerance.absolute += kDifferenceError;
  EXPECT_TRUE(TensorNear(got.dq.view(), problem.Differences(&Problem::q).view(),
                         tolerance));
  EXPECT_TRUE(TensorNear(got.dk.view(), problem.Differences(&Problem::k).view(),
                         tolerance));
  EXPECT_TRUE(TensorNear(got.dv.view(), problem.Differences(&Problem::v).view(),
                         tolerance));
}

}  // namespace
}  // namespace sinklora::kernels
