// The part of CUDA's runtime library that backends use, over emulated GPUs.
// Same names and meaning as CUDA's.
//
// Each device has memory of its own, which kernels of another cannot touch.
//
// Device memory is inaccessible to the host except while a kernel or a copy
// runs, is NaN (all bits set) until written, and has canaries behind every
// allocation, which cudaFree and cudaStreamSynchronize check. Everything runs
// at once, in the order of the calls, on any stream; on one that captures it is
// recorded, with its arguments, and runs when its graph is launched. Calls that
// do not belong there spoil the capture, as CUDA has it. An error of a kernel
// is sticky, as on a GPU: every later call returns it, until ResetDevice().
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_CUDA_EMULATION_RUNTIME_H_
#define SINKLORA_TESTS_TESTING_CUDA_EMULATION_RUNTIME_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "tests/testing/cuda_emulation/types.h"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
inline constexpr unsigned cudaStreamNonBlocking = 1;
using cudaStream_t = struct CUstream_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute,
                                   int device);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMalloc(void** pointer, size_t bytes);
cudaError_t cudaFree(void* pointer);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes,
                            cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes,
                            cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream,
                                   cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec,
                                          cudaGraph_t graph,
                                          unsigned long long flags);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGetLastError();
const char* cudaGetErrorName(cudaError_t error);
// Of a failed launch: what the emulator found, until the next failure.
const char* cudaGetErrorString(cudaError_t error);

namespace sinklora::emulation {

inline constexpr int kDevices = 4;
inline constexpr int kMultiprocessors = 4;
inline constexpr size_t kDeviceBytes = size_t{4} << 30;

cudaError_t LaunchKernel(dim3 grid, dim3 block, int64_t dynamic_shared_bytes,
                         cudaStream_t stream,
                         const std::function<void()>& kernel);

// Runs `work` on the stream, as a library does with kernels of its own.
cudaError_t Queue(cudaStream_t stream, std::function<cudaError_t()> work);

// Calls that can be made to fail as they do on a GPU that is none the worse.
enum class Call {
  kLaunch,  // as one with a bad configuration
  kBeginCapture,
  kEndCapture,
  kInstantiate,  // for lack of memory, as the next
  kGraphLaunch,
};
// The call after the next `calls` of its kind fails; -1: none.
void Fail(Call call, int calls);

// Forgets a sticky error of the thread's device. Memory stays as it is.
void ResetDevice();

// While it lives, the host may touch the memory of the thread's device, which
// must stay the same: for tests that look.
class HostAccess {
 public:
  HostAccess();
  ~HostAccess();
  HostAccess(const HostAccess&) = delete;
  HostAccess& operator=(const HostAccess&) = delete;
};

}  // namespace sinklora::emulation

#endif  // SINKLORA_TESTS_TESTING_CUDA_EMULATION_RUNTIME_H_
