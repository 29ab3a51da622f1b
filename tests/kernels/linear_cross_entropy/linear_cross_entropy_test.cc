// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/backends.h"
#include "tests/kernels/quantized_matmul/packed.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;
using testing::Tolerance;

struct Case {
  int64_t tokens, dim, vocab;
  DType weight = DType::kF32;
  int64_t max_logits_bytes = int64_t{1} << 20;
  double scale = 1.0;  // of the logits
  bool all_ignored = false;
};

struct Outcome {
  HostTensor nll, dhidden, dweight;
  double nll_sum = -1.0;
  int64_t supervised = -1;
};

HostTensor Labels(const Case& c) {
  std::vector<int32_t> labels(c.tokens);
  for (int64_t t = 0; t < c.tokens; ++t) {
    const bool ignored = c.all_ignored || t % 3 == 1;
    labels[t] = ignored ? -1 : static_cast<int32_t>(t * 5 % c.vocab);
  }
  return HostTensor::Ints({c.tokens}, labels);
}

Outcome RunCase(Backend& backend, const Case& c) {
  const HostTensor hidden =
      HostTensor::Random(DType::kF32, {c.tokens, c.dim}, 1, c.scale, 2);
  const HostTensor weight = HostTensor::Random(c.weight, {c.vocab, c.dim}, 2,
                                               1.0 / std::sqrt(double(c.dim)));
  Outcome r;
  r.nll = HostTensor::NaNs(DType::kF32, {c.tokens});
  r.dhidden = HostTensor::NaNs(DType::kF32, {c.tokens, c.dim}, 3);
  r.dweight = HostTensor::Random(DType::kF32, {c.vocab, c.dim}, 3, 1e-2);
  EXPECT_TRUE(
      Ok(backend.LinearCrossEntropy({.hidden = hidden.view(),
                                     .weight = weight.view(),
                                     .labels = Labels(c).view(),
                                     .loss_scale = 0.25f,
                                     .max_logits_bytes = c.max_logits_bytes,
                                     .nll = r.nll.view(),
                                     .dhidden = r.dhidden.view(),
                                     .dweight = r.dweight.view(),
                                     .nll_sum = &r.nll_sum,
                                     .supervised_tokens = &r.supervised})));
  EXPECT_TRUE(r.dhidden.GapsUntouched());
  return r;
}

// bf16 weights round the other operand of each product to bf16.
Tolerance ToleranceOf(const Case& c, int64_t terms) {
  Tolerance t = SumTolerance(terms);
  t.of_largest += 2.0 * kF32Rounding * (c.scale + 4.0);
  if (c.weight == DType::kBF16) {
    t.relative += 2.0 * kBF16Rounding;
    t.of_largest += 2.0 * kBF16Rounding * c.scale;
  }
  return t;
}

TEST(LinearCrossEntropyTest, MatchesReference) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Case& c :
         {Case{1, 8, 5, dtype}, Case{2, 7, 1, dtype}, Case{53, 33, 101, dtype},
          Case{53, 33, 101, dtype, 101 * 4},
          Case{53, 33, 101, dtype, 101 * 4 * 7 + 3},
          Case{40, 16, 257, dtype, 1 << 20, 30.0}}) {
      const Outcome got = RunCase(*cpu, c);
      const Outcome want = RunCase(*reference, c);
      const Tolerance t = ToleranceOf(c, c.dim + c.vocab);
      EXPECT_EQ(got.supervised, want.supervised);
      EXPECT_TRUE(std::fabs(got.nll_sum - want.nll_sum) <=
                  (t.relative + t.of_largest) * (want.nll_sum + c.tokens));
      Tolerance nll = t;
      nll.absolute += t.of_largest * c.scale;
      EXPECT_TRUE(TensorNear(got.nll.view(), want.nll.view(), nll));
      EXPECT_TRUE(TensorNear(got.dhidden.view(), want.dhidden.view(), t));
      EXPECT_TRUE(TensorNear(got.dweight.view(), want.dweight.view(), t));
    }
  }
}

TEST(LinearCrossEntropyTest, IgnoredTokensCostNothingAndGetZero) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const Outcome r = RunCase(
        *backend, {.tokens = 6, .dim = 8, .vocab = 9, .all_ignored = true});
    EXPECT_EQ(r.supervised, 0);
    EXPECT_EQ(r.nll_sum, 0.0);
    EXPECT_TRUE(
        BitEqual(r.nll.view(), HostTensor::Zeros(DType::kF32, {6}).view()));
    EXPECT_TRUE(BitEqual(r.dhidden.view(),
                         HostTensor::Zeros(DType::kF32, {6, 8}).view()));
    EXPECT_TRUE(
        BitEqual(r.dweight.view(),
                 HostTensor::Random(DType::kF32, {9, 8}, 3, 1e-2).view()));
  }
}

TEST(LinearCrossEntropyTest, ThreadsDoNotChangeBits) {
  const Case c{
      .tokens = 300, .dim = 64, .vocab = 500, .max_logits_bytes = 500 * 4 * 70};
  const Outcome one = RunCase(*Open(kTested, 1), c);
  for (int threads : {2, 3}) {
    const Outcome many = RunCase(*Open(kTested, threads), c);
    EXPECT_EQ(many.nll_sum, one.nll_sum);
    EXPECT_TRUE(BitEqual(many.nll.view(), one.nll.view()));
    EXPECT_TRUE(BitEqual(many.dhidden.view(), one.dhidden.view()));
    EXPECT_TRUE(BitEqual(many.dweight.view(), one.dweight.view()));
  }
}

TEST(LinearCrossEntropyTest, NaNReachesTheLoss) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    HostTensor hidden = HostTensor::Random(DType::kF32, {2, 8}, 1);
    hidden.Set(std::nan(""), 1, 3);
    const HostTensor weight = HostTensor::Random(DType::kF32, {40, 8}, 2);
    double sum = 0.0;
    int64_t supervised = 0;
    ASSERT_TRUE(Ok(backend->LinearCrossEntropy(
        {.hidden = hidden.view(),
         .weight = weight.view(),
         .labels = HostTensor::Ints({2}, {0, 1}).view(),
         .nll_sum = &sum,
         .supervised_tokens = &supervised})));
    EXPECT_TRUE(std::isnan(sum)) << name;
  }
}

TEST(LinearCrossEntropyTest, RefusesBadParamsUntouched) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const HostTensor hidden = HostTensor::Random(DType::kF32, {2, 8}, 1);
    const HostTensor weight = HostTensor::Random(DType::kF32, {5, 8}, 2);
    double sum = 77.0;
    int64_t supervised = 77;
    for (int32_t bad : {5, -2}) {
      EXPECT_TRUE(Refused(backend->LinearCrossEntropy(
                              {.hidden = hidden.view(),
                               .weight = weight.view(),
                               .labels = HostTensor::Ints({2}, {1, bad}).view(),
                               .nll_sum = &sum,
                               .supervised_tokens = &supervised}),
                          {"linear_cross_entropy", "labels[1]",
                           std::to_string(bad), "[-1, 5)"}));
    }
    EXPECT_TRUE(Refused(backend->LinearCrossEntropy(
                            {.hidden = hidden.view(),
                             .weight = weight.view(),
                             .labels = HostTensor::Ints({2}, {1, 1}).view(),
                             .max_logits_bytes = 19,
                             .nll_sum = &sum,
                             .supervised_tokens = &supervised}),
                        {"max_logits_bytes is 19", "20"}));
    EXPECT_TRUE(Refused(backend->LinearCrossEntropy(
                            {.hidden = hidden.view(),
                             .weight = weight.view(),
                             .labels = HostTensor::Ints({2}, {1, 1}).view(),
                             .supervised_tokens = &supervised}),
                        {"nll_sum is null"}));
    EXPECT_EQ(sum, 77.0);
    EXPECT_EQ(supervised, 77);
  }
}

// A packed head gives the losses of the values that it holds, and no gradients.
TEST(LinearCrossEntropyTest, PackedHeadMatchesReference) {
  const Case c{53, 40, 101};
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  const HostTensor hidden = HostTensor::Random(DType::kF32, {53, 40}, 1);
  const HostTensor weight = HostTensor::Random(DType::kF32, {101, 40}, 2, 0.2);
  const HostTensor labels = Labels(c);
  for (const auto format : {QuantizedFormat::kInt8, QuantizedFormat::kInt4}) {
    const Packed packed = Pack(*reference, weight, format);
    for (const DType products : {DType::kF32, DType::kBF16}) {
      const auto run = [&](Backend& backend, HostTensor* nll, double* sum) {
        int64_t supervised = 0;
        EXPECT_TRUE(
            Ok(backend.LinearCrossEntropy({.hidden = hidden.view(),
                                           .weight = {},
                                           .labels = labels.view(),
                                           .quantized_weight = packed.view,
                                           .products = products,
                                           .max_logits_bytes = 7 * 101 * 4,
                                           .nll = nll->view(),
                                           .nll_sum = sum,
                                           .supervised_tokens = &supervised})));
        EXPECT_EQ(supervised, 35);
      };
      HostTensor got = HostTensor::NaNs(DType::kF32, {53});
      HostTensor want = got;
      double got_sum = 0, want_sum = 0;
      run(*cpu, &got, &got_sum);
      run(*reference, &want, &want_sum);
      Tolerance t = ToleranceOf(c, c.dim);
      if (products == DType::kF32)
        t.absolute += ActivationRounding(hidden, 0.2);
      EXPECT_TRUE(TensorNear(got.view(), want.view(), t));
      EXPECT_NEAR(got_sum, want_sum, 1e-6 * want_sum + 35 * t.absolute);
    }
  }
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const Packed packed = Pack(*backend, weight, QuantizedFormat::kInt8);
    HostTensor dhidden = HostTensor::NaNs(DType::kF32, {53, 40});
    double sum = 0;
    int64_t supervised = 0;
    LinearCrossEntropyParams p{.hidden = hidden.view(),
                               .weight = {},
                               .labels = labels.view(),
                               .quantized_weight = packed.view,
                               .dhidden = dhidden.view(),
                               .nll_sum = &sum,
                               .supervised_tokens = &supervised};
    EXPECT_TRUE(Refused(backend->LinearCrossEntropy(p),
                        {"dhidden", "quantized_weight"}));
    p.dhidden = TensorView();
    p.weight = weight.view();
    EXPECT_TRUE(Refused(backend->LinearCrossEntropy(p),
                        {"weight", "quantized_weight"}));
    p.weight = ConstTensorView();
    p.quantized_weight.cols = 41;
    EXPECT_TRUE(Refused(backend->LinearCrossEntropy(p),
                        {"quantized_weight.cols is 41", "40"}));
  }
}

}  // namespace
}  // namespace sinklora::kernels
