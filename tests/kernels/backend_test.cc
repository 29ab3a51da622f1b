// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/kernels/backends.h"

namespace sinklora::kernels {
namespace {

TEST(OpenBackendTest, KnowsItsNames) {
  EXPECT_EQ(Open("cpu")->name(), "cpu");
  EXPECT_EQ(Open("reference")->name(), "reference");
  EXPECT_NE(Open("cpu", 3)->description().find("3 threads"), std::string::npos);
  EXPECT_FALSE(Open("cpu", 0)->description().empty());
}

TEST(OpenBackendTest, RefusesWhatItDoesNotKnow) {
  std::unique_ptr<Backend> backend;
  EXPECT_TRUE(Refused(OpenBackend("tpu", {}, &backend),
                      {"\"tpu\"", "auto", "cpu", "cuda:N", "reference"}));
  for (const char* name : {"cuda:x", "cuda:-1", "cuda:", "cuda:1x"}) {
    EXPECT_TRUE(Refused(OpenBackend(name, {}, &backend), {name, "cuda:N"}));
  }
  EXPECT_TRUE(Refused(OpenBackend("cuda:0", {.cpu_isa = "avx2"}, &backend),
                      {"\"avx2\"", "auto", "cuda:0"}));
  EXPECT_TRUE(Refused(OpenBackend("cpu", {.num_threads = -1}, &backend),
                      {"num_threads is -1", "[0, 1024]"}));
  EXPECT_TRUE(Refused(OpenBackend("cpu", {.num_threads = 2000}, &backend),
                      {"num_threads is 2000"}));
  EXPECT_TRUE(Refused(OpenBackend("reference", {.cpu_isa = "avx2"}, &backend),
                      {"\"avx2\"", "auto", "reference"}));
  for (const char* name : {"auto", "cpu", "reference", "cuda:0"}) {
    EXPECT_TRUE(Refused(OpenBackend(name, {.cuda_graphs = "on"}, &backend),
                        {"cuda_graphs is \"on\"", "auto, off"}));
  }
  EXPECT_EQ(backend, nullptr);
}

// There is no plugin beside this program.
TEST(OpenBackendTest, WithoutCudaAutoTakesTheCpuAndSaysWhy) {
  std::unique_ptr<Backend> backend;
  const Status status = OpenBackend("cuda:0", {}, &backend);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("libsinklora_cuda.so"), std::string::npos)
      << status.message();
  std::string why_not_cuda;
  ASSERT_TRUE(Ok(OpenBackend("auto", {.cpu_isa = TestedCpuIsa()}, &backend,
                             &why_not_cuda)));
  EXPECT_EQ(backend->name(), "cpu");
  EXPECT_EQ(why_not_cuda, TestedCpuIsa() == "auto"
                              ? status.message()
                              : "cpu_isa is " + TestedCpuIsa());
  ASSERT_TRUE(Ok(OpenBackend("reference", {.cuda_graphs = "off"}, &backend,
                             &why_not_cuda)));
  EXPECT_EQ(why_not_cuda, "");
}

class BackendMemoryTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = Open(GetParam());
};

INSTANTIATE_TEST_SUITE_P(All, BackendMemoryTest,
                         ::testing::Values("reference", "cpu"));

TEST_P(BackendMemoryTest, AllocatesAlignedAndCounts) {
  EXPECT_EQ(backend_->allocated_bytes(), 0);
  {
    std::vector<Buffer> buffers(4);
    int64_t total = 0;
    for (int64_t size : {0, 1, 1000, 5 << 20}) {
      Buffer& buffer = buffers[size % 4];
      buffer = Buffer();
      ASSERT_TRUE(Ok(backend_->Allocate(size, &buffer)));
      EXPECT_NE(buffer.data(), nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
      EXPECT_EQ(buffer.size_bytes(), size);
      total = 0;
      for (const Buffer& b : buffers) total += b.size_bytes();
      EXPECT_EQ(backend_->allocated_bytes(), total);
    }
    EXPECT_GE(backend_->peak_bytes(), total);
  }
  EXPECT_EQ(backend_->allocated_bytes(), 0);
  EXPECT_GE(backend_->peak_bytes(), 5 << 20);
  backend_->ResetPeak();
  EXPECT_EQ(backend_->peak_bytes(), 0);
}

TEST_P(BackendMemoryTest, MovesBuffers) {
  Buffer a;
  ASSERT_TRUE(Ok(backend_->Allocate(100, &a)));
  Buffer b = std::move(a);
  EXPECT_EQ(a.data(), nullptr);
  ASSERT_TRUE(Ok(backend_->Allocate(50, &a)));
  b = std::move(a);
  EXPECT_EQ(backend_->allocated_bytes(), 50);
}

TEST_P(BackendMemoryTest, RefusesMoreThanTheMachineHas) {
  Buffer buffer;
  const Status status = backend_->Allocate(int64_t{1} << 50, &buffer);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find(std::to_string(int64_t{1} << 50)),
            std::string::npos);
  EXPECT_EQ(backend_->allocated_bytes(), 0);
  EXPECT_TRUE(Refused(backend_->Allocate(-1, &buffer), {"size_bytes is -1"}));
}

TEST_P(BackendMemoryTest, CopiesAndZeroes) {
  Buffer buffer;
  ASSERT_TRUE(Ok(backend_->Allocate(8, &buffer)));
  char text[8] = "sinks!!";
  char back[8] = {};
  ASSERT_TRUE(Ok(backend_->CopyToDevice(text, buffer.data(), 8)));
  ASSERT_TRUE(Ok(backend_->CopyToHost(buffer.data(), back, 8)));
  EXPECT_STREQ(back, text);
  ASSERT_TRUE(Ok(backend_->Zero(buffer.data(), 8)));
  ASSERT_TRUE(Ok(backend_->CopyToHost(buffer.data(), back, 8)));
  EXPECT_EQ(std::string(back), "");
  ASSERT_TRUE(Ok(backend_->CopyToHost(nullptr, nullptr, 0)));
  EXPECT_TRUE(Refused(backend_->CopyToHost(nullptr, back, 8), {"source"}));
  EXPECT_TRUE(Refused(backend_->Zero(buffer.data(), -1), {"size_bytes"}));
}

TEST(CpuMemoryTest, ReusesBigBlocks) {
  const auto backend = Open("cpu");
  Buffer first;
  ASSERT_TRUE(Ok(backend->Allocate(8 << 20, &first)));
  void* address = first.data();
  first = Buffer();
  Buffer second;
  ASSERT_TRUE(Ok(backend->Allocate((8 << 20) - 100, &second)));
  EXPECT_EQ(second.data(), address);
  Buffer third;  // never the same block twice
  ASSERT_TRUE(Ok(backend->Allocate(8 << 20, &third)));
  EXPECT_NE(third.data(), address);
}

}  // namespace
}  // namespace sinklora::kernels
