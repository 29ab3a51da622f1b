// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>

#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;

struct State {
  HostTensor param, m, v;
};

// Three steps from zero moments.
State Train(Backend& backend, std::vector<int64_t> shape, float weight_decay,
            double grad_scale_of_data) {
  State s{HostTensor::Random(DType::kF32, shape, 1),
          HostTensor::Zeros(DType::kF32, shape),
          HostTensor::Zeros(DType::kF32, shape)};
  for (int step = 1; step <= 3; ++step) {
    const HostTensor grad =
        HostTensor::Random(DType::kF32, shape, 10 + step, grad_scale_of_data);
    EXPECT_TRUE(Ok(backend.AdamW({.param = s.param.view(),
                                  .grad = grad.view(),
                                  .m = s.m.view(),
                                  .v = s.v.view(),
                                  .step = step,
                                  .learning_rate = 1e-2f,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.95f,
                                  .weight_decay = weight_decay,
                                  .grad_scale = 0.5f})));
  }
  return s;
}

TEST(AdamWTest, MatchesReference) {
  const auto cpu = Open(kTested);
  const auto reference = Open("reference");
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{1}, {17}, {33, 5}, {2, 3, 67}}) {
    for (float decay : {0.0f, 0.1f}) {
      for (double scale : {1.0, 1e-8, 1e8}) {
        const State got = Train(*cpu, shape, decay, scale);
        const State want = Train(*reference, shape, decay, scale);
        EXPECT_TRUE(
            TensorNear(got.param.view(), want.param.view(), kPointwise));
        EXPECT_TRUE(TensorNear(got.m.view(), want.m.view(), kPointwise));
        EXPECT_TRUE(TensorNear(got.v.view(), want.v.view(), kPointwise));
      }
    }
  }
}

// From zero moments the first step moves every weight by lr, whatever the size
// of its gradient.
TEST(AdamWTest, FirstStepIsTheLearningRate) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    HostTensor param = HostTensor::Zeros(DType::kF32, {40});
    HostTensor m = param;
    HostTensor v = param;
    HostTensor grad = HostTensor::Random(DType::kF32, {40}, 3);
    ASSERT_TRUE(Ok(backend->AdamW({.param = param.view(),
                                   .grad = grad.view(),
                                   .m = m.view(),
                                   .v = v.view(),
                                   .learning_rate = 0.125f})));
    for (int64_t i = 0; i < 40; ++i) {
      const double want = grad.Get(i) > 0 ? -0.125 : 0.125;
      EXPECT_TRUE(std::fabs(param.Get(i) - want) <= 1e-5) << i;
    }
  }
}

TEST(AdamWTest, ThreadsDoNotChangeBits) {
  const State one = Train(*Open(kTested, 1), {200000}, 0.1f, 1.0);
  const State three = Train(*Open(kTested, 3), {200000}, 0.1f, 1.0);
  EXPECT_TRUE(BitEqual(three.param.view(), one.param.view()));
  EXPECT_TRUE(BitEqual(three.v.view(), one.v.view()));
}

TEST(AdamWTest, RefusesBadParams) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    HostTensor x = HostTensor::Zeros(DType::kF32, {4});
    HostTensor y = HostTensor::Zeros(DType::kF32, {5});
    const AdamWParams good{
        .param = x.view(), .grad = x.view(), .m = x.view(), .v = x.view()};
    AdamWParams p = good;
    p.step = 0;
    EXPECT_TRUE(Refused(backend->AdamW(p), {"adamw: step is 0, must be >= 1"}));
    p = good;
    p.beta1 = 1.0f;
    EXPECT_TRUE(Refused(backend->AdamW(p), {"beta1 is 1", "[0, 1)"}));
    p = good;
    p.learning_rate = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(Refused(backend->AdamW(p), {"learning_rate"}));
    p = good;
    p.eps = 0.0f;
    EXPECT_TRUE(Refused(backend->AdamW(p), {"eps is 0"}));
    p = good;
    p.m = y.view();
    EXPECT_TRUE(Refused(backend->AdamW(p), {"m.num_elements is 5", "4"}));
  }
}

// Rows that have never had a gradient stay as they are, so leaving them out
// changes no bit.
TEST(AdamWTest, RowsGiveTheBitsOfAllOfThem) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name, 3);
    for (const int64_t columns : {1, 17, 300, 1025}) {
      const std::vector<int32_t> rows = {0, 3, 4, 40, 60};
      const HostTensor indices = HostTensor::Ints({5}, rows);
      HostTensor grad = HostTensor::Zeros(DType::kF32, {61, columns});
      State all{HostTensor::Random(DType::kF32, {61, columns}, 1),
                HostTensor::Zeros(DType::kF32, {61, columns}),
                HostTensor::Zeros(DType::kF32, {61, columns})};
      all.param.Set(-0.0, 1, 0);
      State some = all;
      for (int step = 1; step <= 4; ++step) {
        // The last steps move rows by their moments alone.
        for (const int32_t row : rows) {
          for (int64_t i = 0; i < columns; ++i) {
            grad.Set(step < 3 ? 0.01 * (row - i) : 0.0, row, i);
          }
        }
        for (State* s : {&all, &some}) {
          AdamWParams p{.param = s->param.view(),
                        .grad = grad.view(),
                        .m = s->m.view(),
                        .v = s->v.view(),
                        .step = step,
                        .learning_rate = 1e-2f,
                        .grad_scale = 0.5f};
          if (s == &some) p.rows = indices.view();
          ASSERT_TRUE(Ok(backend->AdamW(p)));
        }
        EXPECT_TRUE(BitEqual(some.param.view(), all.param.view()));
        EXPECT_TRUE(BitEqual(some.m.view(), all.m.view()));
        EXPECT_TRUE(BitEqual(some.v.view(), all.v.view()));
      }
    }
  }
}

TEST(AdamWTest, RefusesRowsThatAreNot) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    HostTensor x = HostTensor::Zeros(DType::kF32, {5, 4});
    const auto refused = [&](const std::vector<int32_t>& rows, float decay,
                             std::initializer_list<std::string_view> parts) {
      const HostTensor indices =
          HostTensor::Ints({static_cast<int64_t>(rows.size())}, rows);
      EXPECT_TRUE(Refused(backend->AdamW({.param = x.view(),
                                          .grad = x.view(),
                                          .m = x.view(),
                                          .v = x.view(),
                                          .weight_decay = decay,
                                          .rows = indices.view()}),
                          parts));
    };
    refused({0, 5}, 0.0f, {"adamw", "rows[1] is 5", "[0, 5)"});
    refused({2, 2}, 0.0f, {"adamw", "rows[1] is 2", "> 2"});
    refused({0, 1}, 0.1f, {"adamw", "weight_decay", "0 where rows"});
  }
}

}  // namespace
}  // namespace sinklora::kernels
