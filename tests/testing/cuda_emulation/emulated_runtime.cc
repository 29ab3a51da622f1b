// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/cuda_emulation/emulated_runtime.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels/cuda/cuda_backend.h"
#include "tests/testing/cuda_emulation/emulated_communicator.h"
#include "tests/testing/cuda_emulation/engine.h"
#include "tests/testing/cuda_emulation/runtime.h"

namespace sinklora::emulation {
namespace {

using kernels::DType;
using kernels::OkStatus;
using kernels::Status;
using kernels::StatusCode;

Status Checked(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return OkStatus();
  return Status(StatusCode::kInternal, std::string("cuda: ") + call + ": " +
                                           cudaGetErrorName(error) + " (" +
                                           cudaGetErrorString(error) + ")");
}

float Load(const void* data, DType dtype, int64_t at) {
  return dtype == DType::kBF16
             ? kernels::FromBf16(static_cast<const uint16_t*>(data)[at])
             : static_cast<const float*>(data)[at];
}

void Store(void* data, DType dtype, int64_t at, float value) {
  if (dtype == DType::kBF16) {
    static_cast<uint16_t*>(data)[at] = kernels::ToBf16(value);
  } else {
    static_cast<float*>(data)[at] = value;
  }
}

}  // namespace

EmulatedRuntime::EmulatedRuntime(int index) {
  properties_ = {.name = "emulated GPU",
                 .index = index,
                 .compute_major = 8,
                 .compute_minor = 0,
                 .sm_count = kMultiprocessors,
                 .shared_bytes_per_block = kMaxSharedBytes,
                 .l2_bytes = 1 << 20,
                 .memory_bytes = static_cast<int64_t>(kDeviceBytes)};
  cudaSetDevice(index);
  cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
}

EmulatedRuntime::~EmulatedRuntime() { cudaStreamDestroy(stream_); }

Status EmulatedRuntime::Enter() {
  return Checked(cudaSetDevice(properties_.index), "cudaSetDevice");
}

Status EmulatedRuntime::Allocate(int64_t size_bytes, void** out) {
  if (Status status = NotRecording("allocation"); !status.ok()) return status;
  ++allocations_;
  const cudaError_t error = cudaMalloc(out, static_cast<size_t>(size_bytes));
  if (error != cudaErrorMemoryAllocation) return Checked(error, "cudaMalloc");
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return Status(StatusCode::kResourceExhausted,
                "cuda:" + std::to_string(properties_.index) + ": " +
                    std::to_string(size_bytes) + " bytes were asked for, " +
                    std::to_string(free) + " of " + std::to_string(total) +
                    " bytes of device memory are free");
}

void EmulatedRuntime::Free(void* data) { cudaFree(data); }

Status EmulatedRuntime::AllocatePinned(int64_t size_bytes, void** out) {
  if (Status status = NotRecording("allocation"); !status.ok()) return status;
  *out = std::malloc(static_cast<size_t>(size_bytes));
  return *out != nullptr ? OkStatus()
                         : Status(StatusCode::kResourceExhausted, "malloc");
}

void EmulatedRuntime::FreePinned(void* data) { std::free(data); }

Status EmulatedRuntime::CopyToDevice(const void* pinned, void* device,
                                     int64_t size_bytes) {
  if (Status status = NotRecording("copy_to_device"); !status.ok())
    return status;
  return Checked(
      cudaMemcpyAsync(device, pinned, static_cast<size_t>(size_bytes),
                      cudaMemcpyHostToDevice, stream_),
      "copy to the device");
}

Status EmulatedRuntime::CopyToHost(const void* device, void* pinned,
                                   int64_t size_bytes) {
  if (Status status = NotRecording("copy_to_host"); !status.ok()) return status;
  Arrival arrival{std::vector<uint8_t>(static_cast<size_t>(size_bytes)),
                  pinned};
  const cudaError_t error =
      cudaMemcpyAsync(arrival.bytes.data(), device, arrival.bytes.size(),
                      cudaMemcpyDeviceToHost, stream_);
  arrivals_.push_back(std::move(arrival));
  return Checked(error, "copy to the host");
}

Status EmulatedRuntime::CopyOnDevice(const void* from, void* to,
                                     int64_t size_bytes) {
  return Checked(cudaMemcpyAsync(to, from, static_cast<size_t>(size_bytes),
                                 cudaMemcpyDeviceToDevice, stream_),
                 "copy on the device");
}

Status EmulatedRuntime::Zero(void* device, int64_t size_bytes) {
  return Checked(
      cudaMemsetAsync(device, 0, static_cast<size_t>(size_bytes), stream_),
      "zero");
}

void EmulatedRuntime::Deliver(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    std::memcpy(arrivals_[i].pinned, arrivals_[i].bytes.data(),
                arrivals_[i].bytes.size());
  }
  arrivals_.erase(arrivals_.begin(),
                  arrivals_.begin() + static_cast<ptrdiff_t>(count));
  for (size_t& mark : marks_) mark -= std::min(mark, count);
}

Status EmulatedRuntime::Record(int event) {
  if (Status status = NotRecording("a mark"); !status.ok()) return status;
  marks_[event] = arrivals_.size();
  return OkStatus();
}

Status EmulatedRuntime::Wait(int event) {
  if (Status status = NotRecording("a wait"); !status.ok()) return status;
  Deliver(marks_[event]);
  return Checked(cudaGetLastError(), "wait for the device");
}

Status EmulatedRuntime::Synchronize() {
  if (Status status = NotRecording("a wait"); !status.ok()) return status;
  Deliver(arrivals_.size());
  return Checked(cudaStreamSynchronize(stream_), "wait for the device");
}

Status EmulatedRuntime::BeginRecording() {
  Status status =
      Checked(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
              "cudaStreamBeginCapture");
  recording_ = status.ok();
  return status;
}

Status EmulatedRuntime::EndRecording(kernels::cuda::Graph* graph) {
  recording_ = false;
  cudaGraph_t recorded = nullptr;
  const cudaError_t error = cudaStreamEndCapture(stream_, &recorded);
  Status status = Checked(error, "cudaStreamEndCapture");
  if (status.ok() && graph != nullptr) {
    status = Checked(cudaGraphInstantiateWithFlags(graph, recorded, 0),
                     "cudaGraphInstantiateWithFlags");
    if (status.ok()) ++graphs_;
  }
  if (!status.ok() && graph != nullptr) *graph = nullptr;
  cudaGraphDestroy(recorded);
  return status;
}

Status EmulatedRuntime::Replay(kernels::cuda::Graph graph) {
  return Checked(cudaGraphLaunch(graph, stream_), "cudaGraphLaunch");
}

Status EmulatedRuntime::Recover() { return Synchronize(); }

void EmulatedRuntime::Drop(kernels::cuda::Graph graph) {
  --graphs_;
  cudaGraphExecDestroy(graph);
}

namespace {

void Multiply(const kernels::cuda::GemmCall& c) {
  const HostAccess access;
  std::vector<float> b(static_cast<size_t>(c.k * c.n));  // [k, n]
  for (int64_t l = 0; l < c.k; ++l) {
    for (int64_t j = 0; j < c.n; ++j) {
      b[l * c.n + j] = Load(c.b, c.operands,
                            c.transpose_b ? j * c.row_b + l : l * c.row_b + j);
    }
  }
  std::vector<float> sums(static_cast<size_t>(c.n));
  for (int64_t i = 0; i < c.m; ++i) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (int64_t l = 0; l < c.k; ++l) {
      const float a = Load(c.a, c.operands,
                           c.transpose_a ? l * c.row_a + i : i * c.row_a + l);
      const float* row = b.data() + l * c.n;
      for (int64_t j = 0; j < c.n; ++j) sums[j] += a * row[j];
    }
    for (int64_t j = 0; j < c.n; ++j) {
      const int64_t at = i * c.row_out + j;
      float value = c.alpha * sums[j];
      if (c.beta != 0.0f) value += c.beta * Load(c.out, c.result, at);
      Store(c.out, c.result, at, value);
    }
  }
}

}  // namespace

Status HostGemm::Run(const kernels::cuda::GemmCall& call,
                     kernels::cuda::Stream stream) {
  for (const void* data :
       {call.a, call.b, static_cast<const void*>(call.out)}) {
    if (reinterpret_cast<uintptr_t>(data) % kAlignmentBytes != 0) {
      return Status(StatusCode::kInternal, "cuda: matmul: not aligned");
    }
  }
  return Checked(Queue(stream,
                       [call] {
                         Multiply(call);
                         return cudaSuccess;
                       }),
                 "product");
}

Status OpenEmulated(std::unique_ptr<kernels::Backend>* out,
                    const EmulatedRuntime** runtime, int index,
                    int max_graphs) {
  auto own = std::make_unique<EmulatedRuntime>(index);
  if (runtime != nullptr) *runtime = own.get();
  return kernels::cuda::CudaBackend::Create(
      std::move(own), std::make_unique<HostGemm>(),
      std::make_unique<EmulatedLibrary>(), out, max_graphs);
}

}  // namespace sinklora::emulation
