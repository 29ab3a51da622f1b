// The CUDA backend apart from its ops: memory, order, errors.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cuda/staging.h"
#include "tests/kernels/backends.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"

namespace sinklora::kernels {
namespace {

using emulation::EmulatedRuntime;

class CudaBackendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(Ok(emulation::OpenEmulated(&backend_, &runtime_)));
  }
  Buffer Allocated(int64_t size_bytes) {
    Buffer out;
    EXPECT_TRUE(Ok(backend_->Allocate(size_bytes, &out)));
    return out;
  }

  std::unique_ptr<Backend> backend_;
  const EmulatedRuntime* runtime_ = nullptr;
};

TEST_F(CudaBackendTest, SaysWhatItIs) {
  EXPECT_EQ(backend_->name(), "cuda:0");
  EXPECT_NE(backend_->description().find("emulated GPU"), std::string::npos);
}

TEST_F(CudaBackendTest, CountsBytes) {
  Buffer a = Allocated(1000);
  EXPECT_NE(a.data(), nullptr);
  EXPECT_NE(Allocated(0).data(), nullptr);
  EXPECT_EQ(backend_->allocated_bytes(), 1000);
  a = Buffer();
  EXPECT_EQ(backend_->allocated_bytes(), 0);
  EXPECT_EQ(backend_->peak_bytes(), 1000);
  backend_->ResetPeak();
  EXPECT_EQ(backend_->peak_bytes(), 0);
}

TEST_F(CudaBackendTest, OutOfMemoryNamesTheNumbersAndIsNoFailure) {
  Buffer buffer;
  const Status status = backend_->Allocate(int64_t{1} << 50, &buffer);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find(std::to_string(int64_t{1} << 50)),
            std::string::npos);
  EXPECT_NE(status.message().find("free"), std::string::npos);
  EXPECT_TRUE(Refused(backend_->Allocate(-1, &buffer), {"size_bytes is -1"}));
  buffer = Allocated(8);
  EXPECT_TRUE(Ok(backend_->Zero(buffer.data(), 8)));
}

// More than all staging memory at once, so that segments are used again.
TEST_F(CudaBackendTest, CopiesOfAnySizeArriveWhole) {
  constexpr int64_t kMost =
      cuda::Staging::kSegmentBytes * (cuda::Runtime::kEvents + 3) + 12345;
  std::vector<uint8_t> sent(kMost);
  for (int64_t i = 0; i < kMost; ++i) {
    sent[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
  }
  const Buffer buffer = Allocated(kMost);
  for (const int64_t size : {int64_t{1}, cuda::Staging::kSegmentBytes - 1,
                             cuda::Staging::kSegmentBytes + 1, kMost}) {
    std::vector<uint8_t> back(size);
    ASSERT_TRUE(Ok(backend_->CopyToDevice(sent.data(), buffer.data(), size)));
    ASSERT_TRUE(Ok(backend_->CopyToHost(buffer.data(), back.data(), size)));
    EXPECT_EQ(std::memcmp(sent.data(), back.data(), size), 0) << size;
  }
  EXPECT_TRUE(Ok(backend_->CopyToHost(nullptr, nullptr, 0)));
  EXPECT_TRUE(
      Refused(backend_->CopyToHost(nullptr, sent.data(), 8), {"source"}));
  EXPECT_TRUE(Refused(backend_->Zero(buffer.data(), -1), {"size_bytes"}));
}

TEST_F(CudaBackendTest, ManySmallCopiesKeepTheirOrder) {
  constexpr int kCopies = 300;  // together more than all staging memory
  constexpr int64_t kBytes = 65536;
  const Buffer buffer = Allocated(kCopies * kBytes);
  std::vector<int> sent(kBytes / sizeof(int));
  for (int i = 0; i < kCopies; ++i) {
    std::fill(sent.begin(), sent.end(), i);
    ASSERT_TRUE(Ok(backend_->CopyToDevice(
        sent.data(), static_cast<char*>(buffer.data()) + kBytes * i, kBytes)));
  }
  std::vector<int> back(kCopies * sent.size());
  ASSERT_TRUE(
      Ok(backend_->CopyToHost(buffer.data(), back.data(), kCopies * kBytes)));
  for (size_t i = 0; i < back.size(); ++i) {
    ASSERT_EQ(back[i], static_cast<int>(i / sent.size()));
  }
}

// As training does step after step.
TEST_F(CudaBackendTest, OpsAllocateNothingOnceWarm) {
  const int64_t n = 100000;
  const Buffer x = Allocated(n * 4);
  ASSERT_TRUE(Ok(backend_->Zero(x.data(), n * 4)));
  const Buffer out = Allocated(64 * 64 * 4);
  int64_t before = 0;
  for (int step = 0; step < 4; ++step) {
    double sum = -1;
    const ConstTensorView a(x.data(), DType::kF32, {64, 33});
    const ConstTensorView b(x.data(), DType::kF32, {64, 33});
    ASSERT_TRUE(Ok(backend_->SumSquares(
        {.x = ConstTensorView(x.data(), DType::kF32, {n}), .result = &sum})));
    ASSERT_TRUE(Ok(
        backend_->MatMul({.a = a,
                          .b = b,
                          .out = TensorView(out.data(), DType::kF32, {64, 64}),
                          .transpose_b = true})));
    EXPECT_EQ(sum, 0);
    if (step >= 2) {
      EXPECT_EQ(runtime_->allocations(), before) << step;
    }
    before = runtime_->allocations();
  }
}

TEST_F(CudaBackendTest, BadValuesAreReportedOnceByTheNextCallThatWaits) {
  const Buffer table = Allocated(5 * 4 * 4);
  const Buffer out = Allocated(3 * 4 * 4);
  const Buffer ids = Allocated(3 * 4);
  ASSERT_TRUE(Ok(backend_->Zero(table.data(), 5 * 4 * 4)));
  ASSERT_TRUE(Ok(backend_->Zero(out.data(), 3 * 4 * 4)));
  const int32_t bad[3] = {1, 7, -2};
  ASSERT_TRUE(Ok(backend_->CopyToDevice(bad, ids.data(), sizeof(bad))));
  const EmbeddingForwardParams p{
      .ids = ConstTensorView(ids.data(), DType::kI32, {3}),
      .table = ConstTensorView(table.data(), DType::kF32, {5, 4}),
      .out = TensorView(out.data(), DType::kF32, {3, 4})};
  EXPECT_TRUE(Ok(backend_->EmbeddingForward(p)));
  float back[12];
  EXPECT_TRUE(Refused(backend_->CopyToHost(out.data(), back, sizeof(back)),
                      {"embedding_forward: ids[1] is 7, must be in [0, 5)"}));
  EXPECT_TRUE(Ok(backend_->CopyToHost(out.data(), back, sizeof(back))));
}

// What it holds may be wrong, so nothing is computed from it any more.
TEST_F(CudaBackendTest, AnErrorOfTheDeviceStays) {
  Buffer buffer = Allocated(8);
  const Status lost = backend_->Zero(reinterpret_cast<void*>(4096), 8);
  EXPECT_EQ(lost.code(), StatusCode::kInternal);
  EXPECT_NE(lost.message().find("cudaErrorInvalidValue"), std::string::npos)
      << lost.message();
  Buffer other;
  float value = 0;
  for (const Status& later :
       {backend_->Allocate(8, &other), backend_->Zero(buffer.data(), 8),
        backend_->CopyToHost(buffer.data(), &value, 4),
        backend_->Scale({.x = TensorView(buffer.data(), DType::kF32, {2})})}) {
    EXPECT_EQ(later.code(), StatusCode::kInternal);
    EXPECT_EQ(later.message(), lost.message());
  }
}

}  // namespace
}  // namespace sinklora::kernels
