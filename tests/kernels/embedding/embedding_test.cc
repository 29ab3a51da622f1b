// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/kernels/backends.h"
#include "tests/kernels/tolerances.h"
#include "tests/testing/tensor_near.h"

namespace sinklora::kernels {
namespace {

using testing::BitEqual;
using testing::HostTensor;
using testing::TensorNear;

HostTensor Ids(int64_t tokens, int64_t vocab) {
  std::vector<int32_t> ids(tokens);
  for (int64_t t = 0; t < tokens; ++t) {
    ids[t] = static_cast<int32_t>((t * t + 1) % vocab);
  }
  return HostTensor::Ints({tokens}, ids);
}

TEST(EmbeddingTest, ForwardIsExact) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      for (int64_t dim : {1, 17, 64}) {
        const HostTensor table = HostTensor::Random(dtype, {11, dim}, 1, 1, 2);
        const HostTensor ids = Ids(29, 11);
        HostTensor out = HostTensor::NaNs(DType::kF32, {29, dim}, 3);
        ASSERT_TRUE(Ok(backend->EmbeddingForward(
            {.ids = ids.view(), .table = table.view(), .out = out.view()})));
        for (int64_t t = 0; t < 29; ++t) {
          for (int64_t i = 0; i < dim; ++i) {
            ASSERT_EQ(out.Get(t, i),
                      table.Get(static_cast<int64_t>(ids.Get(t)), i));
          }
        }
        EXPECT_TRUE(out.GapsUntouched());
      }
    }
  }
}

HostTensor Gradient(Backend& backend, int64_t tokens, int64_t dim,
                    int64_t vocab = 7) {
  const HostTensor dout = HostTensor::Random(DType::kF32, {tokens, dim}, 2);
  HostTensor dtable = HostTensor::Random(DType::kF32, {vocab, dim}, 3);
  EXPECT_TRUE(Ok(backend.EmbeddingBackward({.ids = Ids(tokens, vocab).view(),
                                            .dout = dout.view(),
                                            .dtable = dtable.view()})));
  return dtable;
}

TEST(EmbeddingTest, BackwardAddsRepeatedIds) {
  const auto cpu = Open(kTested, 3);
  const auto reference = Open("reference");
  for (int64_t dim : {1, 63, 65, 200, 511, 513, 1100}) {
    for (int64_t tokens : {0, 1, 101}) {
      for (int64_t vocab : {1, 7, 211}) {
        EXPECT_TRUE(TensorNear(Gradient(*cpu, tokens, dim, vocab).view(),
                               Gradient(*reference, tokens, dim, vocab).view(),
                               SumTolerance(tokens + 1)));
      }
    }
  }
  EXPECT_TRUE(BitEqual(Gradient(*Open(kTested, 1), 301, 200).view(),
                       Gradient(*Open(kTested, 3), 301, 200).view()));
}

TEST(EmbeddingTest, RefusesUnknownIdsUntouched) {
  for (const char* name : {kTested, "reference"}) {
    const auto backend = Open(name);
    const HostTensor table = HostTensor::Random(DType::kF32, {5, 4}, 1);
    for (int32_t bad : {5, -1}) {
      const HostTensor ids = HostTensor::Ints({3}, {0, 1, bad});
      HostTensor out = HostTensor::Zeros(DType::kF32, {3, 4});
      HostTensor dtable = HostTensor::Zeros(DType::kF32, {5, 4});
      EXPECT_TRUE(Refused(
          backend->EmbeddingForward(
              {.ids = ids.view(), .table = table.view(), .out = out.view()}),
          {"embedding_forward", "ids[2]", std::to_string(bad), "[0, 5)"}));
      EXPECT_TRUE(
          Refused(backend->EmbeddingBackward({.ids = ids.view(),
                                              .dout = table.view().Rows(0, 3),
                                              .dtable = dtable.view()}),
                  {"embedding_backward", "ids[2]"}));
      EXPECT_TRUE(
          BitEqual(out.view(), HostTensor::Zeros(DType::kF32, {3, 4}).view()));
      EXPECT_TRUE(BitEqual(dtable.view(),
                           HostTensor::Zeros(DType::kF32, {5, 4}).view()));
    }
  }
}

}  // namespace
}  // namespace sinklora::kernels
