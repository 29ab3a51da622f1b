// The emulated GPU itself: that right kernels run, and that wrong ones fail.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"
#include "tests/testing/cuda_emulation/emulated_array.h"

namespace sinklora::kernels::cuda {
namespace {

using emulation::EmulatedArray;
using ::testing::Test;

class CudaEmulationTest : public Test {
 protected:
  ~CudaEmulationTest() override { emulation::ResetDevice(); }

  // The launch fails with all of `parts` in its message.
  template <typename Kernel, typename... Args>
  void ExpectFailure(std::vector<std::string> parts, Kernel kernel,
                     LaunchShape shape, Args... args) {
    const Status status = Launch("broken", kernel, shape, nullptr, args...);
    ASSERT_EQ(status.code(), StatusCode::kInternal);
    parts.push_back("broken");
    for (const std::string& part : parts) {
      EXPECT_NE(status.message().find(part), std::string::npos)
          << status.message() << " lacks " << part;
    }
  }
};

SINKLORA_GLOBAL void IndexKernel(int* out) {
  const unsigned block =
      blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread =
      threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] =
      static_cast<int>(block * 1000 + thread);
}

TEST_F(CudaEmulationTest, EveryThreadOfTheGridRunsOnce) {
  EmulatedArray<int> out(2 * 3 * 2 * 64);
  ASSERT_TRUE(Launch("index", IndexKernel,
                     {.grid = {2, 3, 2}, .block = {16, 2, 2}}, nullptr,
                     out.data())
                  .ok());
  const std::vector<int> got = out.ToHost();
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i], static_cast<int>(i / 64 * 1000 + i % 64));
  }
  EXPECT_TRUE(Launch("nothing", IndexKernel, {.grid = {0}, .block = {32}},
                     nullptr, nullptr)
                  .ok());
}

// Each thread reads what its mirror image wrote before the barrier.
SINKLORA_GLOBAL void ReverseKernel(float* x, bool with_barrier) {
  SINKLORA_SHARED(float[128], values);
  float* dynamic = DynamicShared<float>();
  const unsigned mirror = blockDim.x - 1 - threadIdx.x;
  values[threadIdx.x] = x[threadIdx.x];
  dynamic[threadIdx.x] = x[threadIdx.x];
  if (with_barrier) SyncThreads();
  x[threadIdx.x] = values[mirror] + dynamic[mirror];
}

TEST_F(CudaEmulationTest, BarriersOrderSharedMemory) {
  std::vector<float> x(128);
  for (int i = 0; i < 128; ++i) x[i] = static_cast<float>(i);
  EmulatedArray<float> device(x);
  const LaunchShape shape{{1}, {128}, 512};
  ASSERT_TRUE(
      Launch("reverse", ReverseKernel, shape, nullptr, device.data(), true)
          .ok());
  std::vector<float> got = device.ToHost();
  for (int i = 0; i < 128; ++i) EXPECT_EQ(got[i], 2.0f * (127 - i));
  // Without it, what is not yet written is NaN.
  ASSERT_TRUE(
      Launch("reverse", ReverseKernel, shape, nullptr, device.data(), false)
          .ok());
  got = device.ToHost();
  int not_there = 0;
  for (float value : got) not_there += std::isnan(value) ? 1 : 0;
  EXPECT_EQ(not_there, 64);
}

SINKLORA_GLOBAL void DivergingKernel(unsigned from, bool leave) {
  if (threadIdx.x < from) {
    SyncThreads();
  } else if (!leave) {
    SyncWarp();
  }
}

TEST_F(CudaEmulationTest, ThreadsThatDivergeFailTheLaunch) {
  ExpectFailure({"threads diverge", "(64, 0, 0) has returned",
                 "(0, 0, 0) waits at SyncThreads"},
                DivergingKernel, {{1}, {128}}, 64u, true);
  emulation::ResetDevice();
  ExpectFailure({"threads diverge", "(40, 0, 0) waits at SyncWarp"},
                DivergingKernel, {{1}, {64}}, 40u, false);
  // The device is broken from then on, as a real one is.
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 64), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaErrorLaunchFailure);
  emulation::ResetDevice();
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  // What the abandoned threads left behind does not disturb the next block.
  EXPECT_TRUE(
      Launch("fine", DivergingKernel, {{3}, {64}}, nullptr, 64u, false).ok());
}

SINKLORA_GLOBAL void ShuffleKernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int* to = out + threadIdx.x * 6;
  to[0] = Shuffle(lane * 10, 5);
  to[1] = ShuffleXor(lane, 3);
  to[2] = ShuffleDown(lane, 4);
  to[3] = static_cast<int>(Ballot(lane % 3 == 0) & 0xffffu);
  to[4] = static_cast<int>(SumOfLanes(static_cast<float>(lane)));
  to[5] = static_cast<int>(MaxOfLanes(static_cast<float>(lane), 8));
}

TEST_F(CudaEmulationTest, ShufflesMoveValuesBetweenLanes) {
  EmulatedArray<int> out(64 * 6);
  ASSERT_TRUE(
      Launch("shuffle", ShuffleKernel, {{1}, {64}}, nullptr, out.data()).ok());
  const std::vector<int> got = out.ToHost();
  for (int i = 0; i < 64; ++i) {
    const int lane = i % 32;
    EXPECT_EQ(got[i * 6], 50);
    EXPECT_EQ(got[i * 6 + 1], lane ^ 3);
    EXPECT_EQ(got[i * 6 + 2], lane < 28 ? lane + 4 : lane);
    EXPECT_EQ(got[i * 6 + 3], 0b1001001001001001);
    EXPECT_EQ(got[i * 6 + 4], 31 * 16);
    EXPECT_EQ(got[i * 6 + 5], lane / 8 * 8 + 7);
  }
}

// Copies row after row and counts what is there at each step.
SINKLORA_GLOBAL void CopyKernel(const float* x, float* seen) {
  SINKLORA_SHARED(float4[3], rows);
  if (threadIdx.x != 0) return;
  for (int i = 0; i < 3; ++i) {
    CpAsync16(&rows[i], x + 4 * i, i == 2 ? 8 : 16);
    CpAsyncCommit();
  }
  seen[0] = rows[0].x;
  CpAsyncWait<2>();
  seen[1] = rows[0].x;
  seen[2] = rows[1].x;
  CpAsyncWait<0>();
  seen[3] = rows[1].w;
  seen[4] = rows[2].y;
  seen[5] = rows[2].z;
}

TEST_F(CudaEmulationTest, CopiesArriveWhenWaitedForAndNoSooner) {
  EmulatedArray<float> x(
      std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  EmulatedArray<float> seen(6);
  ASSERT_TRUE(
      Launch("copy", CopyKernel, {{1}, {32}}, nullptr, x.data(), seen.data())
          .ok());
  const std::vector<float> got = seen.ToHost();
  EXPECT_TRUE(std::isnan(got[0]));
  EXPECT_EQ(got[1], 1.0f);
  EXPECT_TRUE(std::isnan(got[2]));
  EXPECT_EQ(got[3], 8.0f);
  EXPECT_EQ(got[4], 10.0f);
  EXPECT_EQ(got[5], 0.0f);  // beyond the valid bytes
}

SINKLORA_GLOBAL void MisalignedCopyKernel(const float* x) {
  SINKLORA_SHARED(float4, row);
  CpAsync16(&row, x + 1);
}
SINKLORA_GLOBAL void OutsideSharedKernel(float* x) {
  uint32_t r[4];
  LdMatrixX4(r, x);
}
SINKLORA_GLOBAL void OverrunKernel() {
  SINKLORA_SHARED(float[8], values);
  float* first = values;
  SyncWarp();
  first[8 + threadIdx.x % 2] = 1.0f;
}

TEST_F(CudaEmulationTest, OperationsOutOfBoundsFailTheLaunch) {
  EmulatedArray<float> x(16);
  ExpectFailure({"CpAsync16", "not aligned to 16 bytes"}, MisalignedCopyKernel,
                {{1}, {32}}, x.data());
  emulation::ResetDevice();
  ExpectFailure({"LdMatrixX4", "not in the block's shared memory"},
                OutsideSharedKernel, {{1}, {32}}, x.data());
  emulation::ResetDevice();
  ExpectFailure({"block (0, 0, 0)", "beside the shared variables"},
                OverrunKernel, {{1}, {32}});
  emulation::ResetDevice();
  ExpectFailure({"cudaErrorInvalidConfiguration", "(33, 1, 1)"}, OverrunKernel,
                {{1}, {33}});
  ExpectFailure({"cudaErrorInvalidConfiguration", "200000 bytes"},
                OverrunKernel, {{1}, {32}, 200000});
}

TEST_F(CudaEmulationTest, WritesBehindAnAllocationShow) {
  EmulatedArray<int> out(32);
  ASSERT_TRUE(
      Launch("index", IndexKernel, {{1}, {64}}, nullptr, out.data()).ok());
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaErrorIllegalAddress);
}

SINKLORA_GLOBAL void AddKernel(int* to, int value) {
  if (threadIdx.x == 0) *to += value;
}

TEST_F(CudaEmulationTest, WhatIsCapturedRunsWhenItsGraphIsLaunched) {
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
            cudaSuccess);
  EmulatedArray<int> x(std::vector<int>{7, 1});
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
            cudaSuccess);
  int value = 2;
  ASSERT_TRUE(
      Launch("add", AddKernel, {{1}, {32}}, stream, x.data(), value).ok());
  value = 100;  // the argument is what it was
  ASSERT_EQ(cudaMemcpyAsync(x.data() + 1, x.data(), sizeof(int),
                            cudaMemcpyDeviceToDevice, stream),
            cudaSuccess);
  EXPECT_EQ(x.ToHost(), (std::vector<int>{7, 1}));
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaGraphInstantiateWithFlags(&exec, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
  EXPECT_EQ(x.ToHost(), (std::vector<int>{9, 9}));
  ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
  EXPECT_EQ(x.ToHost(), (std::vector<int>{11, 11}));
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(CudaEmulationTest, CallsThatDoNotBelongThereSpoilACapture) {
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
            cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorInvalidValue);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
            cudaSuccess);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 64), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph),
            cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(graph, nullptr);
  ASSERT_EQ(cudaMalloc(&memory, 64), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

using CudaEmulationDeathTest = CudaEmulationTest;

TEST_F(CudaEmulationDeathTest, TheHostCannotTouchDeviceMemory) {
  EmulatedArray<int> x(std::vector<int>{7});
  {
    const emulation::HostAccess access;
    EXPECT_EQ(*x.data(), 7);
  }
  EXPECT_DEATH(*static_cast<volatile int*>(x.data()) = 1, "");
}

SINKLORA_GLOBAL void StoreOneKernel(int* out) { out[threadIdx.x] = 1; }

TEST_F(CudaEmulationDeathTest, DevicesCannotTouchEachOthersMemory) {
  EmulatedArray<int> x(std::vector<int>(32, 7));
  EXPECT_EQ(cudaSetDevice(emulation::kDevices), cudaErrorInvalidDevice);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  int value = 0;
  EXPECT_EQ(cudaMemcpyAsync(&value, x.data(), sizeof(value),
                            cudaMemcpyDeviceToHost, nullptr),
            cudaErrorInvalidValue);
  EXPECT_DEATH(
      (void)Launch("other", StoreOneKernel, {{1}, {32}}, nullptr, x.data()),
      "");
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_TRUE(
      Launch("own", StoreOneKernel, {{1}, {32}}, nullptr, x.data()).ok());
  EXPECT_EQ(x.ToHost(), std::vector<int>(32, 1));
}

SINKLORA_GLOBAL void BeyondDynamicSharedKernel() {
  static_cast<volatile float*>(DynamicShared<float>())[threadIdx.x] = 0.0f;
}

TEST_F(CudaEmulationDeathTest, DynamicSharedMemoryEndsAtAWall) {
  EXPECT_DEATH((void)Launch("wall", BeyondDynamicSharedKernel, {{1}, {64}, 128},
                            nullptr),
               "");
}

}  // namespace
}  // namespace sinklora::kernels::cuda
